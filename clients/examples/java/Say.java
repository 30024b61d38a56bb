import com.example.csm.v1.AudioConfig;
import com.example.csm.v1.AudioEncoding;
import com.example.csm.v1.StreamSynthesizeRequest;
import com.example.csm.v1.StreamSynthesizeResponse;
import com.example.csm.v1.SynthesisInput;
import com.example.csm.v1.SynthesisSummary;
import com.example.csm.v1.TextToSpeechServiceGrpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.util.Iterator;
import java.util.concurrent.TimeUnit;

/**
 * Streams speech to standard output as 16-bit samples (s16le, mono, 24 kHz with the published model). docs/callers/languages.md
 * says how it is compiled and run.
 */
public final class Say {
  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 2) {
      System.err.println("usage: Say TARGET TEXT");
      System.exit(2);
    }
    ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    StreamSynthesizeRequest request =
        StreamSynthesizeRequest.newBuilder()
            .setInput(SynthesisInput.newBuilder().setText(arguments[1]))
            .setAudioConfig(AudioConfig.newBuilder().setAudioEncoding(AudioEncoding.AUDIO_ENCODING_PCM))
            .build();
    SynthesisSummary summary = null;
    Iterator<StreamSynthesizeResponse> messages =
        TextToSpeechServiceGrpc.newBlockingStub(channel).withDeadlineAfter(2, TimeUnit.MINUTES).streamSynthesize(request);
    while (messages.hasNext()) { // throws StatusRuntimeException when the call fails
      StreamSynthesizeResponse message = messages.next();
      if (message.hasAudioChunk()) {
        message.getAudioChunk().getAudioContent().writeTo(System.out);
      } else if (message.hasSummary()) {
        summary = message.getSummary();
      }
    }
    System.out.flush();
    channel.shutdown();
    if (summary == null) {
      System.err.println("the stream ended without a summary: the audio is incomplete");
      System.exit(1);
    }
    System.err.println(summary.getFinishReason() + ", watermark key " + summary.getWatermark().getKeyId());
  }
}
