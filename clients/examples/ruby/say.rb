# Streams speech to standard output as 16-bit samples (s16le, mono, 24 kHz with the published model).
#
#   say.rb TARGET TEXT ...   each text is said after the ones before it, which are its context
#   say.rb TARGET -          a text from standard input is said while it is written
#
# docs/stubs.md says how the stubs are made and how this is run.
require 'csm/v1/tts_services_pb'

include Csm::V1

SPEAKER = 0

def request(text, **more)
  StreamSynthesizeRequest.new(
    input: { text: text, speaker: SPEAKER }, audio_config: { audio_encoding: :AUDIO_ENCODING_PCM }, **more
  )
end

def listen(stream)
  summary = nil
  stream.each do |message|
    $stdout.write(message.audio_chunk.audio_content) if message.event == :audio_chunk
    summary = message.summary if message.event == :summary
  end
  abort 'the stream ended without a summary: the audio is incomplete' unless summary
  warn "#{summary.finish_reason}, watermark key #{summary.watermark&.key_id}"
  summary
end

def pieces
  Enumerator.new do |messages|
    messages << StreamSynthesizeTextRequest.new(config: request(''))
    $stdin.each_char { |text| messages << StreamSynthesizeTextRequest.new(text: { text: text }) }
  end
end

target, *texts = ARGV
stub = TextToSpeechService::Stub.new(target, :this_channel_is_insecure)
deadline = Time.now + 120
if texts == ['-']
  listen(stub.stream_synthesize_text(pieces, deadline: deadline))
else
  turns = []
  texts.each do |text|
    context = { turns: turns }
    summary = listen(stub.stream_synthesize(request(text, context: context, return_codes: true), deadline: deadline))
    sealed = summary.sealed_codes
    audio = sealed.empty? ? { codes: summary.codes } : { sealed_codes: sealed }
    turns << Turn.new(speaker: SPEAKER, text: text, audio: audio)
  end
end
