// Says a text while it is written: standard input in, 16-bit samples out (s16le, mono, 24 kHz with the published model).
// The first argument is the server, the second what the other speaker has just said. docs/callers/languages.md says how it is
// compiled and run.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <iostream>
#include <optional>
#include <string>
#include <thread>

#include "csm/v1/tts.grpc.pb.h"

int main(int count, char** arguments) {
  if (count != 3) {
    std::cerr << "usage: talk TARGET SAID\n";
    return 2;
  }
  auto channel = grpc::CreateChannel(arguments[1], grpc::InsecureChannelCredentials());
  auto stub = csm::v1::TextToSpeechService::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(10));
  auto stream = stub->StreamSynthesizeText(&context);

  csm::v1::StreamSynthesizeTextRequest part;
  part.mutable_config()->mutable_audio_config()->set_audio_encoding(csm::v1::AUDIO_ENCODING_PCM);
  auto* turn = part.mutable_config()->mutable_context()->add_turns();
  turn->set_speaker(1);
  turn->set_text(arguments[2]);
  std::thread writer([&] {  // one thread writes, another reads
    std::string line;
    while (stream->Write(part) && std::getline(std::cin, line)) part.mutable_text()->set_text(line + "\n");
    stream->WritesDone();
  });
  csm::v1::StreamSynthesizeTextResponse message;
  std::optional<csm::v1::SynthesisSummary> summary;
  while (stream->Read(&message)) {
    if (message.has_sentence()) std::cerr << message.sentence().text() << "\n";
    std::cout << message.audio_chunk().audio_content() << std::flush;  // nothing, when it is another event
    if (message.has_summary()) summary = message.summary();
  }
  writer.join();
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
