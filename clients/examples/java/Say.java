// Streams speech to standard output as 16-bit samples (s16le, mono, 24 kHz with the published model).
//
//   java Say TARGET TEXT ...   each text is said after the ones before it, which are its context
//   java Say TARGET -          a text from standard input is said while it is written
//
// docs/stubs.md says how the stubs are made and how this is compiled and run.

import com.example.csm.v1.AudioConfig;
import com.example.csm.v1.AudioEncoding;
import com.example.csm.v1.StreamSynthesizeRequest;
import com.example.csm.v1.StreamSynthesizeResponse;
import com.example.csm.v1.StreamSynthesizeTextRequest;
import com.example.csm.v1.StreamSynthesizeTextResponse;
import com.example.csm.v1.SynthesisContext;
import com.example.csm.v1.SynthesisInput;
import com.example.csm.v1.SynthesisSummary;
import com.example.csm.v1.TextPiece;
import com.example.csm.v1.TextToSpeechServiceGrpc;
import com.example.csm.v1.Turn;
import com.example.csm.v1.TurnAudio;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

public final class Say {
  private static final int DEADLINE_SECONDS = 120;
  private static final int SPEAKER = 0;

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    try {
      if (arguments[1].equals("-")) {
        sayInput(channel);
        return;
      }
      SynthesisContext.Builder context = SynthesisContext.newBuilder();
      for (int at = 1; at < arguments.length; at++) {
        SynthesisSummary summary = say(channel, arguments[at], context.build());
        context.addTurns(
            Turn.newBuilder().setSpeaker(SPEAKER).setText(arguments[at]).setAudio(audioOf(summary)));
      }
    } catch (Exception error) {
      System.err.println(Status.fromThrowable(error) + " " + error.getMessage());
      System.exit(1);
    } finally {
      channel.shutdownNow();
    }
  }

  private static SynthesisSummary say(ManagedChannel channel, String text, SynthesisContext context)
      throws IOException {
    Iterator<StreamSynthesizeResponse> stream = TextToSpeechServiceGrpc.newBlockingStub(channel)
        .withDeadlineAfter(DEADLINE_SECONDS, TimeUnit.SECONDS)
        .streamSynthesize(request(text).setContext(context).setReturnCodes(true).build());
    SynthesisSummary summary = null;
    while (stream.hasNext()) {
      StreamSynthesizeResponse message = stream.next();
      message.getAudioChunk().getAudioContent().writeTo(System.out); // nothing, when it is another event
      if (message.hasSummary()) {
        summary = message.getSummary();
      }
    }
    return reported(summary);
  }

  private static void sayInput(ManagedChannel channel) throws Exception {
    CompletableFuture<SynthesisSummary> ended = new CompletableFuture<>();
    StreamObserver<StreamSynthesizeTextRequest> pieces = TextToSpeechServiceGrpc.newStub(channel)
        .withDeadlineAfter(DEADLINE_SECONDS, TimeUnit.SECONDS)
        .streamSynthesizeText(new Listener(ended));
    pieces.onNext(StreamSynthesizeTextRequest.newBuilder().setConfig(request("")).build());
    InputStreamReader input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
    char[] buffer = new char[1000];
    for (int length; !ended.isDone() && (length = input.read(buffer)) > 0; ) {
      TextPiece piece = TextPiece.newBuilder().setText(new String(buffer, 0, length)).build();
      pieces.onNext(StreamSynthesizeTextRequest.newBuilder().setText(piece).build());
    }
    pieces.onCompleted();
    reported(ended.get(DEADLINE_SECONDS, TimeUnit.SECONDS));
  }

  /** Writes the audio as it comes, on a thread of gRPC's. */
  private static final class Listener implements StreamObserver<StreamSynthesizeTextResponse> {
    private final CompletableFuture<SynthesisSummary> ended;
    private SynthesisSummary summary;

    Listener(CompletableFuture<SynthesisSummary> ended) {
      this.ended = ended;
    }

    @Override
    public void onNext(StreamSynthesizeTextResponse message) {
      try {
        message.getAudioChunk().getAudioContent().writeTo(System.out);
      } catch (IOException error) {
        ended.completeExceptionally(error);
      }
      if (message.hasSummary()) {
        summary = message.getSummary();
      }
    }

    @Override
    public void onError(Throwable error) {
      ended.completeExceptionally(error);
    }

    @Override
    public void onCompleted() {
      ended.complete(summary);
    }
  }

  private static StreamSynthesizeRequest.Builder request(String text) {
    return StreamSynthesizeRequest.newBuilder()
        .setInput(SynthesisInput.newBuilder().setText(text).setSpeaker(SPEAKER))
        .setAudioConfig(AudioConfig.newBuilder().setAudioEncoding(AudioEncoding.AUDIO_ENCODING_PCM));
  }

  /** The codes of an answer, as the server gave them: sealed, or open. */
  private static TurnAudio audioOf(SynthesisSummary summary) {
    return summary.getSealedCodes().isEmpty()
        ? TurnAudio.newBuilder().setCodes(summary.getCodes()).build()
        : TurnAudio.newBuilder().setSealedCodes(summary.getSealedCodes()).build();
  }

  private static SynthesisSummary reported(SynthesisSummary summary) {
    System.out.flush();
    if (summary == null) {
      throw new IllegalStateException("the stream ended without a summary: the audio is incomplete");
    }
    System.err.println(summary.getFinishReason() + ", watermark key " + summary.getWatermark().getKeyId());
    return summary;
  }
}
