// Streams speech to standard output as 16-bit samples (s16le, mono, 24 kHz with the published model).
// docs/callers/languages.md says how it is compiled and run.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <iostream>
#include <optional>

#include "csm/v1/tts.grpc.pb.h"

int main(int count, char** arguments) {
  if (count != 3) {
    std::cerr << "usage: say TARGET TEXT\n";
    return 2;
  }
  auto channel = grpc::CreateChannel(arguments[1], grpc::InsecureChannelCredentials());
  auto stub = csm::v1::TextToSpeechService::NewStub(channel);
  csm::v1::StreamSynthesizeRequest request;
  request.mutable_input()->set_text(arguments[2]);
  request.mutable_audio_config()->set_audio_encoding(csm::v1::AUDIO_ENCODING_PCM);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(2));

  auto stream = stub->StreamSynthesize(&context, request);
  csm::v1::StreamSynthesizeResponse message;
  std::optional<csm::v1::SynthesisSummary> summary;
  while (stream->Read(&message)) {
    std::cout << message.audio_chunk().audio_content() << std::flush;  // nothing, when it is another event
    if (message.has_summary()) summary = message.summary();
  }
  if (grpc::Status status = stream->Finish(); !status.ok()) {
    std::cerr << "status " << status.error_code() << ": " << status.error_message() << "\n";
    return 1;
  }
  if (!summary) {
    std::cerr << "the stream ended without a summary: the audio is incomplete\n";
    return 1;
  }
  std::cerr << csm::v1::FinishReason_Name(summary->finish_reason()) << ", watermark key "
            << summary->watermark().key_id() << "\n";
}
