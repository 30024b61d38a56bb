// A backend that passes speech on as it is made: GET /speak?text=Hello. answers with a WAV stream. The arguments are the
// server and the address to listen on. docs/callers/languages.md says how it is compiled and run.
package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"os"

	csmv1 "example.com/csm/gen/go/csm/v1"
	"google.golang.org/grpc"
)

var tts csmv1.TextToSpeechServiceClient

// Returns io.EOF when the audio is whole. When ctx ends, the server stops within a frame.
func speak(ctx context.Context, text string, out io.Writer) error {
	stream, err := tts.StreamSynthesize(ctx, &csmv1.StreamSynthesizeRequest{
		Input:       &csmv1.SynthesisInput{InputSource: &csmv1.SynthesisInput_Text{Text: text}},
		AudioConfig: &csmv1.AudioConfig{AudioEncoding: csmv1.AudioEncoding_AUDIO_ENCODING_WAV},
	})
	for err == nil {
		var message *csmv1.StreamSynthesizeResponse
		message, err = stream.Recv()
		out.Write(message.GetAudioChunk().GetAudioContent()) // nothing, when it is another event
	}
	return err
}

// An answer whose audio leaves at once, and whose status waits for the first audio.
type answer struct {
	http.ResponseWriter
	begun bool
}

func (a *answer) Write(audio []byte) (int, error) {
	if len(audio) == 0 {
		return 0, nil
	}
	a.begun = true
	defer a.ResponseWriter.(http.Flusher).Flush()
	return a.ResponseWriter.Write(audio)
}

func main() {
	if len(os.Args) != 3 {
		os.Stderr.WriteString("usage: backend TARGET ADDRESS\n")
		os.Exit(2)
	}
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	tts = csmv1.NewTextToSpeechServiceClient(connection)
	http.HandleFunc("/speak", func(w http.ResponseWriter, r *http.Request) {
		out := &answer{ResponseWriter: w}
		w.Header().Set("Content-Type", "audio/wav")
		err := speak(r.Context(), r.FormValue("text"), out)
		if err != io.EOF && out.begun {
			panic(http.ErrAbortHandler) // breaks the connection, so that the audio does not look whole
		}
		if err != io.EOF {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	log.Fatal(http.ListenAndServe(os.Args[2], nil))
}
