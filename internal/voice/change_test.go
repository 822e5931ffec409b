package voice

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
	"teahouse/room"
)

// change is a talk of six seconds in which the mode changes.
type change struct {
	name     string
	from, to Mode
	gate     audio.GateMode
	muted    bool // at the start
	speaks   func(time.Duration) bool
	act      func(t *testing.T, p *pair) // begins with the talk and has changed the mode at its end
}

// changeAt is when all of them change; it is within a frame, and within a block.
const changeAt = 2003 * time.Millisecond

// play gives what leaves of voice, as somebody on the wire sees it.
func (c *change) play(t *testing.T) (voice []string) {
	meshtest.Bubble(t, func(t *testing.T) {
		p := newPair(t, Config{Microphone: newTalker(c.speaks), Mode: c.from, Gate: c.gate}, newSink(), mesh.Wire{Latency: 30 * time.Millisecond})
		mute(t, p.seat, c.muted)
		time.Sleep(time.Second)
		from := time.Now()
		p.voice.Start()
		c.act(t, p)
		if in := p.voice.ModeInForce(); in == c.to {
			t.Error("the mode is in force before a frame has ended")
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if in := p.voice.ModeInForce(); in != c.to {
			t.Errorf("after 100 ms the mode is %v", in)
		}
		time.Sleep(6*time.Second - time.Since(from))
		synctest.Wait()
		for _, o := range p.watch.since(from) {
			if o.packet && o.kind == 1 {
				voice = append(voice, fmt.Sprintf("%v: %d bytes", o.at.Sub(from), o.size))
			}
		}
		p.close()
	})
	return voice
}

// same fails t where two of the changes differ on the wire.
func same(t *testing.T, changes []change, least int) {
	t.Helper()
	var first []string
	for i, c := range changes {
		got := c.play(t)
		if i == 0 {
			if first = got; len(first) < least {
				t.Fatalf("%s: %d packets", c.name, len(first))
			}
			continue
		}
		if !slices.Equal(got, first) {
			k := 0
			for k < min(len(got), len(first)) && got[k] == first[k] {
				k++
			}
			t.Errorf("%s: %d packets, of %s %d; the first that differ: %v and %v",
				c.name, len(got), changes[0].name, len(first), got[k:min(k+3, len(got))], first[k:min(k+3, len(first))])
		}
	}
}

// after has the mode changed, and then something done.
func after(to Mode, then func(t *testing.T, p *pair)) func(t *testing.T, p *pair) {
	return func(t *testing.T, p *pair) {
		time.Sleep(changeAt)
		p.voice.SetMode(to)
		if then != nil {
			then(t, p)
		}
	}
}

// speaksFrom is words, but for what is said after a time.
func speaksFrom(from time.Duration, later func(time.Duration) bool) func(time.Duration) bool {
	return func(at time.Duration) bool {
		if at >= from {
			return later(at)
		}
		return words(at)
	}
}

func never(time.Duration) bool { return false }

// TestChangeToShielded: from the moment at which shielded is asked for, nothing
// that is said or done shows, whatever the mode was and whether anything was
// sent in it.
func TestChangeToShielded(t *testing.T) {
	for _, start := range []change{
		{name: "unmuted", from: Standard},
		{name: "muted", from: Standard, muted: true},
		{name: "the key up", from: Standard, gate: audio.GatePTT},
		{name: "thrifty", from: Thrifty, gate: audio.GateVoice},
		{name: "studio", from: Studio},
	} {
		t.Run(start.name, func(t *testing.T) {
			start.to = Shielded
			var all []change
			add := func(name string, later func(time.Duration) bool, then func(t *testing.T, p *pair)) {
				c := start
				c.name, c.speaks, c.act = name, speaksFrom(changeAt-100*time.Millisecond, later), after(Shielded, then)
				all = append(all, c)
			}
			if start.from == Thrifty { // what is said until then shows
				add = func(name string, later func(time.Duration) bool, then func(t *testing.T, p *pair)) {
					c := start
					c.name, c.speaks, c.act = name, speaksFrom(2100*time.Millisecond, later), after(Shielded, then)
					all = append(all, c)
				}
			}
			add("silence", never, nil)
			add("words", words, nil)
			add("no pause", always, nil)
			add("a mute at once", always, func(t *testing.T, p *pair) { mute(t, p.seat, !p.seat.Muted()) })
			add("a mute for a moment", always, func(t *testing.T, p *pair) {
				mute(t, p.seat, !p.seat.Muted())
				go func() {
					time.Sleep(333 * time.Millisecond)
					mute(t, p.seat, !p.seat.Muted())
				}()
			})
			if start.gate == audio.GatePTT {
				add("the key down", always, func(_ *testing.T, p *pair) { p.voice.Press(true) })
			}
			same(t, all, 195)
		})
	}
}

// TestChangeFromShielded: the change tells what the next mode tells, that
// somebody is muted now or lets the key up, but nothing of before.
func TestChangeFromShielded(t *testing.T) {
	acts := func(gate audio.GateMode, muted bool) (all []change) {
		add := func(name string, speaks func(time.Duration) bool, before func(t *testing.T, p *pair)) {
			all = append(all, change{
				name: name, from: Shielded, to: Standard, gate: gate, speaks: speaks,
				act: func(t *testing.T, p *pair) {
					begin := time.Now()
					if before != nil {
						before(t, p)
					}
					time.Sleep(changeAt - time.Since(begin))
					mute(t, p.seat, muted)
					p.voice.SetMode(Standard)
				},
			})
		}
		add("silence", never, nil)
		add("words", words, nil)
		add("muted for a while", always, func(t *testing.T, p *pair) {
			time.Sleep(555 * time.Millisecond)
			mute(t, p.seat, true)
			time.Sleep(777 * time.Millisecond)
			mute(t, p.seat, muted)
		})
		add("muted until the change", always, func(t *testing.T, p *pair) {
			time.Sleep(555 * time.Millisecond)
			mute(t, p.seat, true)
		})
		add("the key down for a while", always, func(_ *testing.T, p *pair) {
			time.Sleep(444 * time.Millisecond)
			p.voice.Press(true)
			time.Sleep(888 * time.Millisecond)
			p.voice.Press(false)
		})
		return all
	}
	for name, test := range map[string]struct {
		gate  audio.GateMode
		muted bool
		least int
	}{
		"unmuted":    {audio.GateOpen, false, 295},
		"muted":      {audio.GateOpen, true, 95},
		"the key up": {audio.GatePTT, false, 95},
	} {
		t.Run(name, func(t *testing.T) { same(t, acts(test.gate, test.muted), test.least) })
	}
}

// TestAwaitMode: it waits for what leaves, and no longer than asked to.
func TestAwaitMode(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		var told []Mode
		v, err := New(Config{Microphone: audio.NewTone(440), OnMode: func(m Mode) { told = append(told, m) }})
		if err != nil {
			t.Fatal(err)
		}
		v.SetMode(Shielded)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := v.AwaitMode(short); err == nil || v.ModeInForce() != Standard {
			t.Errorf("before anything moves %v is in force, %v", v.ModeInForce(), err)
		}
		v.Start()
		for _, m := range []Mode{Shielded, Thrifty, Studio, Studio, Standard, Shielded} {
			v.SetMode(m)
			begun := time.Now()
			if err := v.AwaitMode(t.Context()); err != nil || v.ModeInForce() != m {
				t.Errorf("%v is in force, not %v: %v", v.ModeInForce(), m, err)
			}
			if took := time.Since(begun); took > 50*time.Millisecond {
				t.Errorf("%v is in force after %v", m, took)
			}
			time.Sleep(time.Second)
		}
		closeAll(t, v)
		if want := []Mode{Shielded, Thrifty, Studio, Standard, Shielded}; !slices.Equal(told, want) {
			t.Errorf("told of %v, not %v", told, want)
		}
	})
}

// TestShieldedAfterTheEnd: a microphone that has ended can be shielded
// afterwards, and what leaves ends again with the mode; packets do not come in
// a heap for the time before it.
func TestShieldedAfterTheEnd(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		for _, end := range []time.Duration{time.Nanosecond, 1500 * time.Millisecond} {
			microphone := newTalker(always)
			microphone.end = end
			if end == time.Nanosecond {
				microphone.n = 1 // it ends before it has begun
			}
			ended := 0
			w := &wire{hearers: 1}
			v := start(t, Config{Microphone: microphone, OnMicrophoneEnd: func(error) { ended++ }})
			v.Sit(room.ID{1}, false).Attach(w)
			time.Sleep(3 * time.Second)
			for _, m := range []Mode{Shielded, Standard, Shielded, Studio, Thrifty} {
				v.SetMode(m)
				if err := v.AwaitMode(t.Context()); err != nil {
					t.Fatal(err)
				}
				before := len(w.heard())
				time.Sleep(2 * time.Second)
				synctest.Wait()
				n := len(w.heard()) - before
				if m == Shielded && (n < 99 || n > 101) || m != Shielded && n > 1 {
					t.Errorf("an end after %v: %d frames in 2 s of %v", end, n, m)
				}
			}
			for _, f := range w.heard()[len(w.heard())-150:] {
				if f.level != audio.SilentLevel {
					t.Fatalf("after the end a frame has the level %d", f.level)
				}
			}
			closeAll(t, v)
			if ended != 1 {
				t.Errorf("the microphone ended %d times", ended)
			}
		}
	})
}
