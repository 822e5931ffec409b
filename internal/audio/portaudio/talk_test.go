//go:build lab

package portaudio

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"teahouse/internal/audio"
)

// talk plays a sine into a speaker and listens to a microphone, as a talk
// does.
type talk struct {
	system *System
	mic    audio.Microphone
	out    audio.Speaker
	events [2]chan Event // of the speaker, of the microphone
	said   atomic.Int64  // blocks
	heard  atomic.Int64
	loud   atomic.Int64 // when the tone was last heard, Unix ns; 0 never
	since  atomic.Int64 // when it began to be heard without a break, ditto
	quiet  atomic.Int64 // when it was last not heard, ditto
	done   chan error
	once   sync.Once
}

func startTalk(t *testing.T, microphone, speaker string) *talk {
	t.Helper()
	k := &talk{events: [2]chan Event{make(chan Event, 1000), make(chan Event, 1000)}, done: make(chan error, 2)}
	k.system = openSystem(t, Config{Notify: func(e Event) { *k.of(e.Microphone) <- e }})
	mic, out := must(k.system.OpenMicrophone(microphone))(t), must(k.system.OpenSpeaker(speaker))(t)
	k.mic, k.out = mic, out
	go func() {
		block := make([]float32, 2*audio.BlockFrames)
		for n := 0; ; n++ {
			for i := range block {
				block[i] = 0.5 * float32(math.Sin(2*math.Pi*997*float64(n*audio.BlockFrames+i/2)/audio.Rate))
			}
			if err := out.Write(block); err != nil {
				k.done <- err
				return
			}
			k.said.Add(1)
		}
	}()
	go func() {
		block := make([]float32, audio.BlockFrames)
		run, began := 0, int64(0)
		for {
			if _, err := mic.Read(block); err != nil {
				k.done <- err
				return
			}
			k.heard.Add(1)
			now := time.Now().UnixNano()
			if audio.Peak(block) < 0.3 {
				run = 0
				k.quiet.Store(now)
				continue
			}
			if k.loud.Store(now); run == 0 {
				began = now
			}
			if run++; run >= unbroken {
				k.since.Store(began)
			}
		}
	}()
	t.Cleanup(func() { k.close(t) })
	return k
}

// patience is how long anything that must happen may take on a busy machine.
const patience = 20 * time.Second

// unbroken is how many blocks in a row the tone must be heard to be back.
const unbroken = 10

// close ends the talk. It may be called again.
func (k *talk) close(t *testing.T) {
	k.once.Do(func() {
		if err := k.system.Close(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-k.done; !errors.Is(err, audio.ErrClosed) {
				t.Errorf("in the end: %v", err)
			}
		}
	})
}

// back waits until the tone is heard again that began to be heard after since,
// and says how long after; 0 where it never went away.
func (k *talk) back(since time.Time) (took time.Duration, ok bool) {
	const under = time.Second // more than what is under way
	for ; time.Since(since) < patience; time.Sleep(5 * time.Millisecond) {
		if k.since.Load() >= since.UnixNano() {
			return time.Unix(0, k.since.Load()).Sub(since), true
		}
		if k.quiet.Load() < since.UnixNano() && k.loud.Load() > since.Add(under).UnixNano() {
			return 0, true
		}
	}
	return 0, false
}

// hears is back for what must be there within some time.
func (k *talk) hears(t *testing.T, since time.Time, within time.Duration) {
	t.Helper()
	took, ok := k.back(since)
	if !ok {
		t.Fatal("nothing is heard")
	}
	t.Logf("sound after %v", took)
	if took > within {
		t.Errorf("sound only after %v", took)
	}
}

func (k *talk) of(microphone bool) *chan Event {
	if microphone {
		return &k.events[1]
	}
	return &k.events[0]
}

// event waits for an event of the speaker, or of the microphone.
func (k *talk) event(microphone bool, want func(Event) bool, most time.Duration) (e Event, ok bool) {
	for deadline := time.After(most); ; {
		select {
		case e := <-*k.of(microphone):
			if want(e) {
				return e, true
			}
		case <-deadline:
			return Event{}, false
		}
	}
}

// silent holds that nothing was heard for a while.
func (k *talk) silent(t *testing.T, d time.Duration) {
	t.Helper()
	time.Sleep(d)
	if ago := time.Since(time.Unix(0, k.loud.Load())); ago < d-100*time.Millisecond {
		t.Fatalf("the tone was heard %v ago, though its device is gone", ago)
	}
}
