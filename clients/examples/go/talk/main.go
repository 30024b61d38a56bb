// Says a text while it is written: standard input in, 16-bit samples out (s16le, mono, 24 kHz with the published model).
// The first argument is the server, the second what the other speaker has just said. docs/callers/languages.md says how it is
// compiled and run.
package main

import (
	"bufio"
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
		os.Stderr.WriteString("usage: talk TARGET SAID\n")
		os.Exit(2)
	}
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure())
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	stream, err := csmv1.NewTextToSpeechServiceClient(connection).StreamSynthesizeText(ctx)
	check(err)

	go write(stream, &csmv1.StreamSynthesizeRequest{
		AudioConfig: &csmv1.AudioConfig{AudioEncoding: csmv1.AudioEncoding_AUDIO_ENCODING_PCM},
		Context:     &csmv1.SynthesisContext{Turns: []*csmv1.Turn{{Speaker: 1, Text: os.Args[2]}}},
	})
	var summary *csmv1.SynthesisSummary
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			break
		}
		check(err)
		switch event := message.Event.(type) { // an event that is not known here is skipped
		case *csmv1.StreamSynthesizeTextResponse_Sentence:
			log.Print(event.Sentence.Text)
		case *csmv1.StreamSynthesizeTextResponse_AudioChunk:
			os.Stdout.Write(event.AudioChunk.AudioContent)
		case *csmv1.StreamSynthesizeTextResponse_Summary:
			summary = event.Summary
		}
	}
	if summary == nil {
		log.Fatal("the stream ended without a summary: the audio is incomplete")
	}
	log.Printf("%s, watermark key %s", summary.FinishReason, summary.Watermark.GetKeyId())
}

// Sends the configuration, then the text as it comes. If the call has failed, Recv says why.
func write(stream csmv1.TextToSpeechService_StreamSynthesizeTextClient, config *csmv1.StreamSynthesizeRequest) {
	part := &csmv1.StreamSynthesizeTextRequest{
		Part: &csmv1.StreamSynthesizeTextRequest_Config{Config: config},
	}
	input := bufio.NewReader(os.Stdin)
	for stream.Send(part) == nil {
		character, _, err := input.ReadRune()
		if err != nil {
			stream.CloseSend()
			return
		}
		part.Part = &csmv1.StreamSynthesizeTextRequest_Text{Text: &csmv1.TextPiece{Text: string(character)}}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
