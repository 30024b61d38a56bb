// Streams speech to standard output as 16-bit samples (s16le, mono, 24 kHz with the published model).
// docs/callers/languages.md says how it is compiled and run.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"time"

	csmv1 "example.com/csm/gen/go/csm/v1"
	"google.golang.org/grpc"
)

func main() {
	if len(os.Args) != 3 {
		os.Stderr.WriteString("usage: say TARGET TEXT\n")
		os.Exit(2)
	}
	// Dial and WithInsecure are the names that every grpc-go 1.x has, Debian's included.
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure())
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	stream, err := csmv1.NewTextToSpeechServiceClient(connection).StreamSynthesize(ctx, &csmv1.StreamSynthesizeRequest{
		Input:       &csmv1.SynthesisInput{InputSource: &csmv1.SynthesisInput_Text{Text: os.Args[2]}},
		AudioConfig: &csmv1.AudioConfig{AudioEncoding: csmv1.AudioEncoding_AUDIO_ENCODING_PCM},
	})
	check(err)
	var summary *csmv1.SynthesisSummary
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			break
		}
		check(err)
		os.Stdout.Write(message.GetAudioChunk().GetAudioContent()) // nothing, when it is another event
		if message.GetSummary() != nil {
			summary = message.GetSummary()
		}
	}
	if summary == nil {
		log.Fatal("the stream ended without a summary: the audio is incomplete")
	}
	log.Printf("%s, watermark key %s", summary.FinishReason, summary.Watermark.GetKeyId())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
