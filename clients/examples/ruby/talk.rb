# Says a text while it is written: standard input in, 16-bit samples out (s16le, mono, 24 kHz with the published model).
# The first argument is the server, the second what the other speaker has just said. docs/callers/languages.md says how it is run.
require 'csm/v1/tts_services_pb'

unless ARGV.size == 2
  warn 'usage: talk.rb TARGET SAID'
  exit 2
end
target, said = ARGV
stub = Csm::V1::TextToSpeechService::Stub.new(target, :this_channel_is_insecure)
messages = Enumerator.new do |parts| # gRPC takes these in a thread of its own
  parts << Csm::V1::StreamSynthesizeTextRequest.new(config: {
    audio_config: { audio_encoding: :AUDIO_ENCODING_PCM }, context: { turns: [{ speaker: 1, text: said }] }
  })
  $stdin.each_char { |character| parts << Csm::V1::StreamSynthesizeTextRequest.new(text: { text: character }) }
end
summary = nil
stub.stream_synthesize_text(messages, deadline: Time.now + 600).each do |message|
  case message.event # an event that is not known here is skipped
  when :sentence then warn message.sentence.text
  when :audio_chunk then $stdout.write(message.audio_chunk.audio_content)
  when :summary then summary = message.summary
  end
end
abort 'the stream ended without a summary: the audio is incomplete' unless summary
warn "#{summary.finish_reason}, watermark key #{summary.watermark&.key_id}"
