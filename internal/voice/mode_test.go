package voice

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
	"teahouse/room"
)

func TestParseMode(t *testing.T) {
	for m := Standard; m <= Studio; m++ {
		if got, err := ParseMode(m.String()); err != nil || got != m {
			t.Errorf("%v is read as %v, %v", m, got, err)
		}
	}
	for _, wrong := range []string{"", "Standard", "none", "shielded "} {
		if _, err := ParseMode(wrong); err == nil {
			t.Errorf("%q is a mode", wrong)
		}
	}
}

// talker is a microphone that hears a voice at some times and noise of a room
// at others: a voice that comes and goes, whose length differs from word to word.
type talker struct {
	audio.Microphone
	speaks func(at time.Duration) bool
	end    time.Duration // io.EOF from there on; 0: never
	n      int
	murmur murmur
}

func newTalker(speaks func(time.Duration) bool) *talker {
	return &talker{Microphone: audio.NewSilence(), speaks: speaks}
}

func (m *talker) Read(block []float32) (time.Time, error) {
	at := time.Duration(m.n) * audio.BlockDuration
	if m.end > 0 && at >= m.end {
		return time.Time{}, io.EOF
	}
	when, err := m.Microphone.Read(block)
	m.n++
	loud := m.speaks != nil && m.speaks(at)
	for i := range block {
		block[i] = m.murmur.next()
		if loud {
			x := float64(m.n*audio.BlockFrames + i)
			block[i] += float32(0.2 * math.Sin(x/30) * math.Sin(x/4000) * (1 + math.Sin(x/7)))
		}
	}
	return when, err
}

// words is a voice that speaks four tenths of the time.
func words(at time.Duration) bool { return at%(1500*time.Millisecond) < 600*time.Millisecond }

func always(time.Duration) bool { return true }

// laborious is a Processor that takes the longer the louder it is: somebody on
// the wire might time it.
type laborious struct{}

func (laborious) Play([]float32, time.Time) {}
func (laborious) Delay() time.Duration      { return 0 }
func (laborious) Close() error              { return nil }
func (laborious) Process(mono []float32, _ time.Time) {
	time.Sleep(time.Duration(float64(audio.Peak(mono)) * float64(10*time.Millisecond)))
}

// scene is a talk of six seconds.
type scene struct {
	name   string
	speaks func(time.Duration) bool
	gate   audio.GateMode
	end    time.Duration
	act    func(t *testing.T, p *pair)
}

var scenes = []scene{
	{name: "silence"},
	{name: "words", speaks: words},
	{name: "no pause", speaks: always},
	{name: "words, gate by voice", speaks: words, gate: audio.GateVoice},
	{name: "push to talk, up", speaks: words, gate: audio.GatePTT},
	{name: "push to talk, pressed", speaks: words, gate: audio.GatePTT, act: func(_ *testing.T, p *pair) {
		time.Sleep(1234 * time.Millisecond)
		p.voice.Press(true)
		time.Sleep(777 * time.Millisecond)
		p.voice.Press(false)
	}},
	{name: "muted and unmuted", speaks: always, act: func(t *testing.T, p *pair) {
		for _, wait := range []time.Duration{1005, 333, 1777} {
			time.Sleep(wait * time.Millisecond)
			mute(t, p.seat, !p.seat.Muted())
		}
	}},
	{name: "the microphone ends", speaks: always, end: 2500 * time.Millisecond},
}

// play plays a scene and gives what leaves of voice in its six seconds, as
// somebody on the wire sees it.
func (s *scene) play(t *testing.T, m Mode) (voice []string) {
	meshtest.Bubble(t, func(t *testing.T) {
		microphone := newTalker(s.speaks)
		microphone.end = s.end
		p := newPair(t, Config{Microphone: microphone, Mode: m, Gate: s.gate, Processor: laborious{}}, newSink(), mesh.Wire{Latency: 30 * time.Millisecond})
		from := time.Now()
		p.voice.Start()
		if s.act != nil {
			s.act(t, p)
		}
		time.Sleep(6*time.Second - time.Since(from))
		synctest.Wait()
		for _, o := range p.watch.since(from) {
			if o.packet && o.kind == 1 { // reports go each 500 ms, whoever speaks
				voice = append(voice, fmt.Sprintf("%v: %d bytes", o.at.Sub(from), o.size))
			}
		}
		p.close()
	})
	return voice
}

// TestShieldedTellsNothing: whatever is said or not, muted or not, pressed or
// not, and when the microphone has ended, the same packets leave at the same
// moments. In the other modes they do not, so that this test can fail.
func TestShieldedTellsNothing(t *testing.T) {
	silence := scenes[0].play(t, Shielded)
	if len(silence) < 295 {
		t.Fatalf("%d packets in 6 s", len(silence))
	}
	for _, s := range scenes[1:] {
		if got := s.play(t, Shielded); !slices.Equal(got, silence) {
			i := 0
			for i < min(len(got), len(silence)) && got[i] == silence[i] {
				i++
			}
			t.Errorf("%s: %d packets, of silence %d; the first that differ: %v and %v",
				s.name, len(got), len(silence), got[i:min(i+3, len(got))], silence[i:min(i+3, len(silence))])
		}
	}
	for _, m := range []Mode{Standard, Thrifty, Studio} {
		quiet := scenes[0].play(t, m)
		if spoken := scenes[6].play(t, m); slices.Equal(spoken, quiet) {
			t.Errorf("in %v a mute is not seen: the test sees nothing", m)
		}
	}
}

// TestShieldedMuteIsNotTold: no message leaves because somebody mutes; those
// that tell of it are the ones that are due anyway.
func TestShieldedMuteIsNotTold(t *testing.T) {
	for _, m := range []Mode{Shielded, Standard} {
		meshtest.Bubble(t, func(t *testing.T) {
			p := newPair(t, Config{Microphone: newTalker(always), Mode: m}, newSink(), mesh.Wire{Latency: 30 * time.Millisecond})
			p.voice.Start()
			told := 0
			for i := range 20 {
				time.Sleep(2100 * time.Millisecond)
				from := time.Now()
				mute(t, p.seat, i%2 == 0)
				synctest.Wait()
				for _, o := range p.watch.since(from) {
					if !o.packet && o.at.Sub(from) < 5*time.Millisecond {
						told++
					}
				}
			}
			switch {
			case m == Shielded && told > 1: // one may be due just then
				t.Errorf("%d messages leave right with 20 changes", told)
			case m == Standard && told < 20:
				t.Errorf("%d messages leave right with 20 changes: the test sees nothing", told)
			}
			mute(t, p.seat, true)
			time.Sleep(7 * time.Second)
			synctest.Wait()
			if !p.showsMuted() {
				t.Errorf("%v: after 7 s the other does not know of the mute", m)
			}
			p.close()
		})
	}
}

// TestStandardMuteSendsNothing, whatever Shielded does.
func TestStandardMuteSendsNothing(t *testing.T) {
	// Muted from 1,005 to 1,338 ms and from 3,115 on.
	if n := len(scenes[6].play(t, Standard)); n < 130 || n > 143 {
		t.Errorf("%d packets in 2.8 s of talk", n)
	}
}

// kilobits is what the voice of a scene takes with the headers of UDP and IPv4
// and the hop seal (28 and 29 bytes), in kbit/s.
func kilobits(t *testing.T, s *scene, m Mode) float64 {
	seen := s.play(t, m)
	sum := 0
	for _, o := range seen {
		var at string
		var size int
		if _, err := fmt.Sscanf(o, "%s %d bytes", &at, &size); err != nil {
			t.Fatal(o, err)
		}
		sum += size + 28 + 29
	}
	return float64(sum) * 8 / 6000
}

// TestThriftyCosts: it sends nothing while nobody speaks, and a third less
// while somebody does; what standard and shielded send does not depend on it.
func TestThriftyCosts(t *testing.T) {
	silence, talk, pauses := &scenes[0], &scenes[2], &scenes[3]
	table := map[Mode][3]float64{}
	for _, m := range []Mode{Standard, Shielded, Thrifty} {
		table[m] = [3]float64{kilobits(t, silence, m), kilobits(t, pauses, m), kilobits(t, talk, m)}
		t.Logf("%-8v silence %.1f, words %.1f, without a pause %.1f kbit/s", m, table[m][0], table[m][1], table[m][2])
	}
	thrifty, standard := table[Thrifty], table[Standard]
	if thrifty[0] != 0 {
		t.Errorf("silence costs %.1f kbit/s", thrifty[0])
	}
	if thrifty[1] > standard[1]/2 || thrifty[1] < 5 {
		t.Errorf("words cost %.1f kbit/s, in standard %.1f", thrifty[1], standard[1])
	}
	if thrifty[2] > standard[2]*2/3 {
		t.Errorf("speech without a pause costs %.1f kbit/s, in standard %.1f", thrifty[2], standard[2])
	}
	for _, m := range []Mode{Standard, Shielded} {
		if table[m][0] < 60 || table[m][0] != table[m][2] {
			t.Errorf("%v: %.1f kbit/s in silence, %.1f in speech", m, table[m][0], table[m][2])
		}
	}
}

// TestOneLength: within each mode all packets of voice are equally long, end of
// a spurt and silence included.
func TestOneLength(t *testing.T) {
	for m := Standard; m <= Studio; m++ {
		meshtest.Bubble(t, func(t *testing.T) {
			w := &wire{hearers: 1}
			v := start(t, Config{Microphone: newTalker(words), Mode: m, Gate: audio.GateVoice})
			seat := v.Sit(room.ID{1}, false)
			seat.Attach(w)
			for range 4 {
				time.Sleep(1300 * time.Millisecond)
				mute(t, seat, !seat.Muted())
			}
			closeAll(t, v)
			got := w.heard()
			if len(got) < 30 {
				t.Fatalf("%v: %d frames", m, len(got))
			}
			for i, f := range got {
				if f.length != got[0].length {
					t.Errorf("%v: frame %d of %d bytes, the first of %d (end %v)", m, i, f.length, got[0].length, f.end)
				}
			}
		})
	}
}

// TestStudio: a file in stereo comes out in stereo, with what is above 15 kHz
// and what is so quiet that a gate would leave it out; nothing is processed.
func TestStudio(t *testing.T) {
	const left, right = 1000.0, 16000.0
	for _, quiet := range []bool{false, true} {
		meshtest.Bubble(t, func(t *testing.T) {
			amplitude := 0.25
			if quiet {
				amplitude = 0.0005 // -66 dBFS
			}
			path := stereoFile(t, left, right, amplitude)
			microphone, err := audio.OpenWAV(path, false)
			if err != nil {
				t.Fatal(err)
			}
			c := &cleaner{}
			out := newSink()
			p := newPair(t, Config{Microphone: microphone, Mode: Studio, Gate: audio.GateVoice, Processor: c}, out, mesh.Wire{Latency: 30 * time.Millisecond})
			begin := len(out.sound())
			p.voice.Start()
			time.Sleep(4 * time.Second)
			synctest.Wait()
			sound := second(out.sound()[begin:], 2*time.Second)
			for ch, own := range []float64{left, right} {
				side := make([]float32, len(sound))
				for i := 0; i < len(sound); i += 2 {
					side[i] = sound[i+ch]
				}
				part, rms := power(side, own)
				other, _ := power(side, left+right-own)
				t.Logf("amplitude %v, channel %d: %.4f of it is the tone of %v Hz, %.6f the other; rms %.5f", amplitude, ch, part, own, other, rms)
				if want := amplitude / math.Sqrt2; part < 0.9 || rms < 0.8*want || rms > 1.2*want {
					t.Errorf("channel %d: %.3f of it is the tone of %v Hz, at %.5f of %.5f", ch, part, own, rms, want)
				}
				if other > 0.001 {
					t.Errorf("channel %d: %.4f of it is the other's tone", ch, other)
				}
			}
			if len(c.captured) != 0 {
				t.Errorf("%d blocks were processed", len(c.captured))
			}
			if st := p.ear.Stats(); len(st) != 1 || st[0].Concealed != 0 {
				t.Errorf("%+v", st)
			}
			p.close()
		})
	}
}

// TestModeChanges: the mode can be changed in mid-talk: it costs no frame at
// the sender, the listener does not take it for a restart, and in the end all is
// as it was.
func TestModeChanges(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		out := newSink()
		p := newPair(t, Config{Microphone: audio.NewTone(440)}, out, mesh.Wire{Latency: 30 * time.Millisecond})
		p.voice.Start()
		for _, m := range []Mode{Standard, Shielded, Studio, Standard, Studio, Shielded, Standard} {
			p.voice.SetMode(m)
			if p.voice.Mode() != m {
				t.Errorf("mode is %v, not %v", p.voice.Mode(), m)
			}
			time.Sleep(3 * time.Second)
		}
		time.Sleep(5 * time.Second)
		sound := out.sound()
		if part, rms := power(sound[len(sound)-audio.Rate/5:], 440); part < 0.98 || rms < 0.16 {
			t.Errorf("in the end the tone is %.3f of what is heard, rms %.3f", part, rms)
		}
		st := p.ear.Stats()
		if len(st) != 1 || st[0].Received < 7*149 || st[0].Sent != st[0].Received || st[0].Resets != 0 || st[0].Skipped != 0 {
			t.Errorf("%+v", st)
		}
		p.close()
	})
}

// stereoFile is a WAV of four seconds with a tone to each side.
func stereoFile(t *testing.T, left, right, amplitude float64) (path string) {
	t.Helper()
	const n = 4 * audio.Rate
	var b []byte
	le := binary.LittleEndian
	b = append(b, "RIFF"...)
	b = le.AppendUint32(b, 36+8*n)
	b = append(b, "WAVEfmt "...)
	b = le.AppendUint32(b, 16)
	b = le.AppendUint16(b, 3) // float
	b = le.AppendUint16(b, 2)
	b = le.AppendUint32(b, audio.Rate)
	b = le.AppendUint32(b, 8*audio.Rate)
	b = le.AppendUint16(b, 8)
	b = le.AppendUint16(b, 32)
	b = append(b, "data"...)
	b = le.AppendUint32(b, 8*n)
	for i := range n {
		for _, hz := range []float64{left, right} {
			b = le.AppendUint32(b, math.Float32bits(float32(amplitude*math.Sin(2*math.Pi*hz*float64(i)/audio.Rate))))
		}
	}
	path = filepath.Join(t.TempDir(), "stereo.wav")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
