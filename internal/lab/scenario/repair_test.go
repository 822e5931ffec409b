//go:build lab

package scenario

import (
	"testing"
	"time"

	"teahouse/internal/lab"
)

// The row of docs/voice.md that promises are made of, between real processes:
// 60 ms of path, up to 60 ms more for each packet by the shim, so that they
// overtake each other, and every fifth lost by nftables, either way.
func TestAFifthIsLost(t *testing.T) {
	s := newSoundStage(t)
	said, wav := speech(t, s.dir, "demo-instruct", 61*time.Second)
	x := internet(t, "public boot\npublic a delay 30ms jitter 60ms loss 20%\npublic b delay 30ms\n")
	s.bootstrap(t, x.Named("boot"))
	listener := s.join(t, x.Named("b"), "listener", "none", "record", "--transport", "datagram")
	listener.event(t, "joined", nil)
	speaker := s.join(t, x.Named("a"), "speaker", "file:"+wav, "none", "--transport", "datagram", "--exit-on-mic-end")
	member := speaker.member(t)
	code, err := speaker.Wait(within(t, 2*time.Minute))
	must(t, err)
	if code != 0 {
		t.Errorf("the speaker ended with %d: %s", code, speaker.Stderr())
	}
	stats := listener.lastStats(member)
	listener.leaves(t)
	// As there, the first five seconds do not count: reports have to come first.
	early := listener.statsFrom(member, 5*50)
	since := func(what string) float64 { return stats.Number(what) - early.Number(what) }
	sent, repaired, concealed := since("sent"), since("repaired"), since("concealed")
	t.Logf("20 %% loss and 60 ms of jitter: of %v frames %v were repaired (%.1f %%), %v concealed (%.2f %%); late %v, lost %v, delay %v ms, %v kbit/s", sent, repaired,
		100*repaired/sent, concealed, 100*concealed/sent, since("late"), since("lost"), stats.Number("delay_ms"), stats.Number("kbit_s"))
	if sent < 53*50 {
		t.Errorf("%v frames are less than a minute, less what does not count", sent)
	}
	// In virtual time 36 %: those that are lost, and those that a copy overtakes.
	if share := repaired / sent; share < 0.28 || share > 0.44 {
		t.Errorf("%.1f %% of the frames were repaired: the test tests something else", 100*share)
	}
	if concealed >= 0.02*sent {
		t.Errorf("%.2f %% of the speech is made up", 100*concealed/sent)
	}
	soundsAlike(t, said, listener)
}

// statsFrom is the first stats event about member that counts so many frames.
func (a *actor) statsFrom(member string, frames float64) (stats lab.Event) {
	for _, e := range a.Events() {
		if e.Name == "stats" && e.Text("member") == member && e.Number("sent") >= frames {
			return e
		}
	}
	return stats
}

// soundsAlike fails t where what was recorded is not what was said.
func soundsAlike(t *testing.T, said []float32, listener *actor) {
	t.Helper()
	heard, err := lab.ReadMono(listener.speaker)
	must(t, err)
	c, err := lab.CompareWithin(opusAlone(t, said), heard, 100*time.Millisecond)
	must(t, err)
	if t.Logf("by sound: %v", c); c.Median < 0.9 {
		t.Errorf("the speech has not come through: median as one piece %.3f", c.Median)
	}
}
