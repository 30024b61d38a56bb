// Streams speech to standard output as 16-bit samples (s16le, mono, 24 kHz with the published model).
//
//   say TARGET TEXT ...   each text is said after the ones before it, which are its context
//   say TARGET -          a text from standard input is said while it is written
//
// docs/stubs.md says how the stubs are made and how this is compiled and run.

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "csm/v1/tts.grpc.pb.h"

namespace {

constexpr int kSpeaker = 0;
constexpr auto kDeadline = std::chrono::minutes(2);

csm::v1::StreamSynthesizeRequest RequestFor(const std::string& text) {
  csm::v1::StreamSynthesizeRequest request;
  request.mutable_input()->set_text(text);
  request.mutable_input()->set_speaker(kSpeaker);
  request.mutable_audio_config()->set_audio_encoding(csm::v1::AUDIO_ENCODING_PCM);
  return request;
}

// Writes the audio of a stream as it comes; returns its summary, or ends the program.
template <typename Message, typename Stream>
csm::v1::SynthesisSummary Listen(Stream& stream) {
  csm::v1::SynthesisSummary summary;
  bool is_whole = false;
  Message message;
  while (stream.Read(&message)) {
    std::cout << message.audio_chunk().audio_content();  // nothing, when it is another event
    if (message.has_summary()) {
      summary = message.summary();
      is_whole = true;
    }
  }
  std::cout.flush();
  const grpc::Status status = stream.Finish();
  if (!status.ok() || !is_whole) {
    std::cerr << (status.ok() ? "the stream ended without a summary: the audio is incomplete" : status.error_message())
              << "\n";
    std::_Exit(1);  // a thread may still wait for input
  }
  std::cerr << csm::v1::FinishReason_Name(summary.finish_reason()) << ", watermark key "
            << summary.watermark().key_id() << "\n";
  return summary;
}

void SayTexts(csm::v1::TextToSpeechService::Stub& stub, char** texts) {
  csm::v1::SynthesisContext conversation;
  for (; *texts != nullptr; ++texts) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kDeadline);
    csm::v1::StreamSynthesizeRequest request = RequestFor(*texts);
    *request.mutable_context() = conversation;
    request.set_return_codes(true);
    const auto stream = stub.StreamSynthesize(&context, request);
    const csm::v1::SynthesisSummary summary = Listen<csm::v1::StreamSynthesizeResponse>(*stream);
    csm::v1::Turn& turn = *conversation.add_turns();
    turn.set_speaker(kSpeaker);
    turn.set_text(*texts);
    if (summary.sealed_codes().empty()) {
      *turn.mutable_audio()->mutable_codes() = summary.codes();
    } else {
      turn.mutable_audio()->set_sealed_codes(summary.sealed_codes());
    }
  }
}

// Length of the longest start of a text that ends between two characters of UTF-8.
size_t WholeCharacters(const std::string& text) {
  size_t at = text.size();
  while (at > 0 && (static_cast<unsigned char>(text[at - 1]) & 0xC0) == 0x80) --at;
  if (at == 0) return text.size();  // no character begins here: the server refuses it
  const auto lead = static_cast<unsigned char>(text[at - 1]);
  const size_t length = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  return at - 1 + length <= text.size() ? text.size() : at - 1;
}

void SayInput(csm::v1::TextToSpeechService::Stub& stub) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  const auto stream = stub.StreamSynthesizeText(&context);
  std::thread writing([&stream] {
    csm::v1::StreamSynthesizeTextRequest message;
    *message.mutable_config() = RequestFor("");
    bool is_open = stream->Write(message);
    std::string waiting;
    char buffer[1000];
    for (ssize_t length; is_open && (length = read(STDIN_FILENO, buffer, sizeof buffer)) > 0;) {
      waiting.append(buffer, static_cast<size_t>(length));
      const size_t whole = WholeCharacters(waiting);
      if (whole == 0) continue;
      message.mutable_text()->set_text(waiting.substr(0, whole));
      waiting.erase(0, whole);
      is_open = stream->Write(message);
    }
    stream->WritesDone();
  });
  Listen<csm::v1::StreamSynthesizeTextResponse>(*stream);
  writing.join();
}

}  // namespace

int main(int, char** arguments) {
  const auto channel = grpc::CreateChannel(arguments[1], grpc::InsecureChannelCredentials());
  const auto stub = csm::v1::TextToSpeechService::NewStub(channel);
  if (std::string(arguments[2]) == "-") {
    SayInput(*stub);
  } else {
    SayTexts(*stub, arguments + 2);
  }
}
