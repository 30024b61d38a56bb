import com.example.csm.v1.AudioConfig;
import com.example.csm.v1.AudioEncoding;
import com.example.csm.v1.StreamSynthesizeRequest;
import com.example.csm.v1.StreamSynthesizeTextRequest;
import com.example.csm.v1.StreamSynthesizeTextResponse;
import com.example.csm.v1.SynthesisContext;
import com.example.csm.v1.SynthesisSummary;
import com.example.csm.v1.TextPiece;
import com.example.csm.v1.TextToSpeechServiceGrpc;
import com.example.csm.v1.Turn;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * Says a text while it is written: standard input in, 16-bit samples out (s16le, mono, 24 kHz with the published model).
 * The first argument is the server, the second what the other speaker has just said. docs/callers/languages.md says how it is
 * compiled and run.
 */
public final class Talk {
  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 2) {
      System.err.println("usage: Talk TARGET SAID");
      System.exit(2);
    }
    ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    Speech speech = new Speech();
    StreamObserver<StreamSynthesizeTextRequest> writer =
        TextToSpeechServiceGrpc.newStub(channel).withDeadlineAfter(10, TimeUnit.MINUTES).streamSynthesizeText(speech);
    StreamSynthesizeRequest config =
        StreamSynthesizeRequest.newBuilder()
            .setAudioConfig(AudioConfig.newBuilder().setAudioEncoding(AudioEncoding.AUDIO_ENCODING_PCM))
            .setContext(SynthesisContext.newBuilder().addTurns(Turn.newBuilder().setSpeaker(1).setText(arguments[1])))
            .build();
    writer.onNext(StreamSynthesizeTextRequest.newBuilder().setConfig(config).build());
    Reader input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
    char[] piece = new char[100];
    for (int length = input.read(piece); length >= 0 && !speech.end.isDone(); length = input.read(piece)) {
      TextPiece text = TextPiece.newBuilder().setText(new String(piece, 0, length)).build();
      writer.onNext(StreamSynthesizeTextRequest.newBuilder().setText(text).build());
    }
    if (!speech.end.isDone()) {
      writer.onCompleted();
    }
    SynthesisSummary summary = speech.end.get(); // throws ExecutionException when the call failed
    channel.shutdown();
    if (summary == null) {
      System.err.println("the stream ended without a summary: the audio is incomplete");
      System.exit(1);
    }
    System.err.println(summary.getFinishReason() + ", watermark key " + summary.getWatermark().getKeyId());
  }

  /** Writes audio as it comes, in a thread of gRPC's. */
  private static final class Speech implements StreamObserver<StreamSynthesizeTextResponse> {
    final CompletableFuture<SynthesisSummary> end = new CompletableFuture<>();
    private SynthesisSummary summary;

    @Override
    public void onNext(StreamSynthesizeTextResponse message) {
      switch (message.getEventCase()) {
        case SENTENCE:
          System.err.println(message.getSentence().getText());
          break;
        case AUDIO_CHUNK:
          try {
            message.getAudioChunk().getAudioContent().writeTo(System.out);
            System.out.flush();
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
          break;
        case SUMMARY:
          summary = message.getSummary();
          break;
        default: // an event that is not known here is skipped
      }
    }

    @Override
    public void onError(Throwable error) {
      end.completeExceptionally(error);
    }

    @Override
    public void onCompleted() {
      end.complete(summary);
    }
  }
}
