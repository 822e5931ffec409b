//go:build lab

package scenario

import (
	"slices"
	"testing"
	"time"

	"teahouse/codec"
	"teahouse/internal/lab"
)

// opusAlone is what the codec makes of speech with nothing between encoder and
// decoder, with the program's settings.
func opusAlone(t *testing.T, speech []float32) []float32 {
	t.Helper()
	enc, err := codec.NewEncoder(codec.EncoderConfig{})
	must(t, err)
	dec, err := codec.NewDecoder(1)
	must(t, err)
	frame := enc.Config().FrameSamples
	packet, pcm := make([]byte, codec.MaxOpus), make([]float32, codec.MaxFrame)
	var out []float32
	for at := 0; at+frame <= len(speech); at += frame {
		n, err := enc.Encode(packet, speech[at:at+frame])
		must(t, err)
		got, err := dec.Decode(pcm, packet[:n])
		must(t, err)
		out = append(out, pcm[:got]...)
	}
	return out
}

// checkSpeech holds what a listener recorded against the speech.
func checkSpeech(t *testing.T, speech []float32, file string) lab.Comparison {
	t.Helper()
	heard, err := lab.ReadMono(file)
	must(t, err)
	said := opusAlone(t, speech)
	// After a stall of the machine playout is later for some seconds, and a half
	// second in which it follows its target is unlike as one piece.
	c, err := lab.CompareWithin(said, heard, 150*time.Millisecond)
	must(t, err)
	whole := slices.Sorted(slices.Values(append(c.Whole(said, heard), 0)))[1:]
	if len(whole) == 0 || whole[len(whole)/2] < 0.95 || whole[0] < 0.7 {
		t.Errorf("the speech has not come through: %v; in pieces of 50 ms %.3f", c, whole)
	}
	if len(c.Gaps) > 0 {
		t.Errorf("there are silences in it: %v", c)
	}
	if len(c.Windows) < 8 {
		t.Errorf("only %d half seconds of speech were compared", len(c.Windows))
	}
	return c
}

// Issue 2, item 1: a bootstrap, a speaker with recorded speech, a listener who
// records, found by the bootstrap alone, over each carrier.
func TestSpeechOverEachTransport(t *testing.T) {
	for _, c := range []struct{ flag, path, transport string }{
		{"datagram", "datagram", "quic"},
		{"quic", "stream", "quic"},
		{"tcp", "stream", "tcp"},
	} {
		t.Run(c.flag, func(t *testing.T) {
			s := newSoundStage(t)
			said, wav := speech(t, s.dir, "demo-congrats", 8*time.Second)
			s.bootstrap(t, nil)
			listener := s.join(t, nil, "listener", "none", "record", "--transport", c.flag)
			listener.event(t, "joined", nil)
			begun := time.Now()
			speaker := s.join(t, nil, "speaker", "file:"+wav, "none", "--transport", c.flag, "--exit-on-mic-end")
			member := speaker.member(t)
			first := listener.hears(t, member)
			speaker.ends(t, 0)
			listener.event(t, "member", func(e lab.Event) bool { return e.Text("member") == member && e.Text("state") == "out" })
			up, ok := listener.lastUp(member)
			if !ok || up.Text("path") != c.path || up.Text("transport") != c.transport {
				t.Errorf("the link is %v, want %s over %s", up.Fields, c.path, c.transport)
			}
			// No link was ever anything else.
			for _, e := range append(listener.Events(), speaker.Events()...) {
				if e.Name == "link" && e.Text("state") == "up" && (e.Text("path") != c.path || e.Text("transport") != c.transport) {
					t.Errorf("a link was %s over %s", e.Text("path"), e.Text("transport"))
				}
			}
			stats := listener.lastStats(member)
			listener.leaves(t)
			result := checkSpeech(t, said, listener.speaker)
			t.Logf("%s: %v", c.flag, result)
			t.Logf("%s: start to first voice %v; received %v, lost %v, concealed %v, jitter %v ms, delay %v ms",
				c.flag, first.Seen.Sub(begun).Round(time.Millisecond), stats.Number("received"), stats.Number("lost"),
				stats.Number("concealed"), stats.Number("jitter_ms"), stats.Number("delay_ms"))
		})
	}
}
