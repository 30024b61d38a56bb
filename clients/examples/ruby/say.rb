# Streams speech to standard output as 16-bit samples (s16le, mono, 24 kHz with the published model).
# docs/callers/languages.md says how it is run.
require 'csm/v1/tts_services_pb'

unless ARGV.size == 2
  warn 'usage: say.rb TARGET TEXT'
  exit 2
end
target, text = ARGV
stub = Csm::V1::TextToSpeechService::Stub.new(target, :this_channel_is_insecure)
request = Csm::V1::StreamSynthesizeRequest.new(
  input: { text: text }, audio_config: { audio_encoding: :AUDIO_ENCODING_PCM }
)
summary = nil
stub.stream_synthesize(request, deadline: Time.now + 120).each do |message|
  $stdout.write(message.audio_chunk.audio_content) if message.event == :audio_chunk
  summary = message.summary if message.event == :summary
end
abort 'the stream ended without a summary: the audio is incomplete' unless summary
warn "#{summary.finish_reason}, watermark key #{summary.watermark&.key_id}"
