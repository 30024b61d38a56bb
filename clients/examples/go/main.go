// Streams speech to standard output as 16-bit samples (s16le, mono, 24 kHz with the published model).
//
//	say TARGET TEXT ...   each text is said after the ones before it, which are its context
//	say TARGET -          a text from standard input is said while it is written
//
// docs/stubs.md says how the stubs are made and how this is compiled and run.
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

var speaker int32 = 0

func main() {
	// Dial and WithInsecure are the names that every grpc-go 1.x has, Debian's included.
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure())
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client := csmv1.NewTextToSpeechServiceClient(connection)
	if os.Args[2] == "-" {
		sayInput(ctx, client)
		return
	}
	conversation := &csmv1.SynthesisContext{}
	for _, text := range os.Args[2:] {
		request := requestFor(text)
		request.Context, request.ReturnCodes = conversation, true
		stream, err := client.StreamSynthesize(ctx, request)
		check(err)
		summary := listen(func() (message, error) { return stream.Recv() })
		audio := &csmv1.TurnAudio{Source: &csmv1.TurnAudio_SealedCodes{SealedCodes: summary.SealedCodes}}
		if summary.Codes != nil {
			audio.Source = &csmv1.TurnAudio_Codes{Codes: summary.Codes}
		}
		conversation.Turns = append(conversation.Turns, &csmv1.Turn{Speaker: speaker, Text: text, Audio: audio})
	}
}

func sayInput(ctx context.Context, client csmv1.TextToSpeechServiceClient) {
	stream, err := client.StreamSynthesizeText(ctx)
	check(err)
	go func() { // an error of Send is also one of Recv
		config := &csmv1.StreamSynthesizeTextRequest_Config{Config: requestFor("")}
		err := stream.Send(&csmv1.StreamSynthesizeTextRequest{Part: config})
		for input := bufio.NewReader(os.Stdin); err == nil; {
			character, _, end := input.ReadRune()
			if end != nil {
				break
			}
			piece := &csmv1.StreamSynthesizeTextRequest_Text{Text: &csmv1.TextPiece{Text: string(character)}}
			err = stream.Send(&csmv1.StreamSynthesizeTextRequest{Part: piece})
		}
		stream.CloseSend()
	}()
	listen(func() (message, error) { return stream.Recv() })
}

// What the messages of both streams have.
type message interface {
	GetAudioChunk() *csmv1.AudioChunk
	GetSummary() *csmv1.SynthesisSummary
}

// Writes the audio of a stream as it comes, to its end.
func listen(receive func() (message, error)) *csmv1.SynthesisSummary {
	var summary *csmv1.SynthesisSummary
	for {
		message, err := receive()
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
	return summary
}

func requestFor(text string) *csmv1.StreamSynthesizeRequest {
	return &csmv1.StreamSynthesizeRequest{
		Input:       &csmv1.SynthesisInput{InputSource: &csmv1.SynthesisInput_Text{Text: text}, Speaker: &speaker},
		AudioConfig: &csmv1.AudioConfig{AudioEncoding: csmv1.AudioEncoding_AUDIO_ENCODING_PCM},
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
