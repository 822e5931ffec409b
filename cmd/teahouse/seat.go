package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"time"

	"teahouse/internal/voice"
	"teahouse/room"
)

// leaveWithin bounds the goodbye.
const leaveWithin = 2 * time.Second

// seat is the room that the node sits in: room, voice and the events of both.
type seat struct {
	// Constant after takeSeat.
	house  *house
	id     room.ID
	name   string // the topic, which stays on this machine
	nick   string
	silent bool
	room   *room.Room
	voice  *voice.Voice
	place  *voice.Seat
	sound  *sound
	ended  chan struct{} // the room has ended, and its events are published
	quit   context.CancelFunc
	tasks  sync.WaitGroup
	once   sync.Once
	ears   listening
	own    *ownSpeech
	modes  modes

	micEnded      chan error // 1: the microphone has ended
	speakerFailed chan error // 1
}

// takeSeat joins the room topic with the devices s, which it owns from here,
// also where it fails.
func takeSeat(ctx context.Context, h *house, topic string, f *voiceFlags, s *sound) (st *seat, err error) {
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	secret, name, err := h.roomSecret(topic)
	if err != nil {
		return nil, err
	}
	id := secret.ID()
	member, err := h.home.Enter(id)
	if err != nil {
		return nil, err
	}
	seat := &seat{
		house: h, id: id, name: name, silent: s.silent, sound: s,
		ended: make(chan struct{}), micEnded: make(chan error, 1), speakerFailed: make(chan error, 1),
		own: newOwnSpeech(), modes: newModes(s.gate),
	}
	seat.nick = nickname(f.Nick, h.settings.Nick, room.Member(member.Key.Public().(ed25519.PublicKey)))
	holdFor := f.MicAfter
	v, err := voice.New(voice.Config{
		Microphone: s.microphone,
		Processor:  s.processor,
		Gate:       s.gate,
		Speaker:    s.speaker,
		Recorder:   s.recorder,
		HoldFor:    holdFor,
		Mode:       f.mode(),
		OnSpeaking: func(id room.ID, m room.Member, on bool) {
			h.hub.publish(speakingEvent{headOf("speaking", time.Now(), id.String()), memberText(m), on})
		},
		OnOwnSpeaking:   seat.own.changed,
		OnClipping:      seat.own.clip,
		OnMode:          seat.modes.changed,
		OnMicrophoneEnd: func(err error) { seat.micEnded <- err },
		OnSpeakerFailed: func(err error) { seat.speakerFailed <- err },
		Log:             h.log,
	})
	if err != nil {
		return nil, err
	}
	seat.voice = v
	muted := f.Muted || s.silent
	seat.place = v.Sit(id, muted)
	if err := seat.recall(); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	seat.room, err = room.Join(ctx, room.Config{
		Network: h.node, Secret: secret, Key: member.Key,
		Instance: member.Instance, RaiseInstance: member.Raise,
		Nick: seat.nick, ListenOnly: s.silent, Muted: muted,
		Shielded: f.mode() == voice.Shielded, Recording: s.recorder, AllowRecording: f.AllowRecording,
		Heard: seat.place.Heard, Log: h.log,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("join the room: %w", err), v.Close())
	}
	seat.place.Attach(seat.room)
	watching, quit := context.WithCancel(context.Background())
	seat.quit = quit
	seat.tasks.Go(func() { seat.watch(seat.room.Subscribe()) })
	seat.tasks.Go(func() { seat.report(watching) })
	v.Start()
	return seat, nil
}

// nickname is what the flag or the settings say, else one made of the member
// key: the name of the account on this machine is nobody's business.
func nickname(flag, setting string, m room.Member) string {
	return cmp.Or(flag, setting, "guest-"+memberText(m)[:4])
}

// watch publishes the room's events until it has ended.
func (s *seat) watch(events *room.Subscription) {
	defer close(s.ended)
	defer events.Close()
	for {
		// The context never ends: EventLeft does, and comes after every Leave.
		e, err := events.Next(context.Background())
		if err != nil {
			return
		}
		switch e.Kind {
		case room.EventJoined:
			s.house.hub.publish(joinedEvent{
				head: headOf("joined", e.Time, s.id.String()), Name: s.name, Member: memberText(s.room.Self()),
				Others: e.Others, Nick: s.nick, Muted: s.place.Muted(), ListenOnly: s.silent, Recording: s.sound.recorder,
				Mode: s.voice.ModeInForce().String(), Gate: s.modes.gate.String(),
			})
		case room.EventLeft:
			s.publishLeft(&e)
			return
		case room.EventMember:
			if e.State == "out" {
				s.lastStats(func(m room.Member) bool { return m == e.Member })
				s.place.Gone(e.Member)
			} else {
				s.place.Update(e.Info)
			}
			fallthrough
		default:
			if out, ok := fromRoom(&e, s.id); ok {
				if link, is := out.(linkEvent); is {
					link.Country = s.house.country(link.Remote)
					out = link
				}
				s.house.hub.publish(out)
			}
		}
	}
}

func (s *seat) publishLeft(e *room.Event) {
	out := leftEvent{head: headOf("left", e.Time, s.id.String())}
	if e.Err != nil {
		f := explain(e.Err)
		out.Code, out.Message = f.word, f.sentence
	}
	s.house.hub.publish(out)
}

// report publishes the figures of each voice once a second.
func (s *seat) report(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	type sample struct {
		bytes uint64
		at    time.Time
	}
	before := map[room.Member]sample{}
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-s.speakerFailed:
			s.loseSpeaker(err)
		case <-s.modes.changes:
			s.tellMode()
		case on := <-s.own.changes:
			s.tellSpeech(on, time.Now())
		case <-s.own.clipped:
			s.warn("clipping", "your microphone is too loud and distorts: turn it down, or speak from further away")
		case now := <-tick.C:
			links := map[room.Member]room.LinkInfo{}
			for _, l := range s.room.Links() {
				links[l.Member] = l
			}
			last := before
			before = map[room.Member]sample{}
			for _, m := range s.place.Stats() {
				link := links[m.Member]
				sum := sample{link.Stats.ReceivedBytes, now}
				before[m.Member] = sum
				rate := 0.0
				if old, ok := last[m.Member]; ok && sum.bytes >= old.bytes {
					rate = float64(sum.bytes-old.bytes) * 8 / now.Sub(old.at).Seconds()
				}
				s.house.hub.publish(newStats(s.voice, m, link, rate, s.id))
			}
		}
	}
}

// loseSpeaker tells that the speaker has failed, and where it was a file that
// it is not written any more.
func (s *seat) loseSpeaker(err error) {
	id := s.id.String()
	s.house.hub.publish(newError(wrap(err, exitAudio, "device", "the speaker has failed (%v): the talk goes on without it", err), id))
	if !s.sound.recorder {
		return
	}
	if err := s.room.SetRecording(false); err != nil {
		s.house.log.Info("the end of the recording was not shown", "err", err)
	}
}

// setMuted mutes or unmutes, for all to see.
func (s *seat) setMuted(muted bool) error {
	if err := s.place.SetMuted(muted); err != nil {
		return err
	}
	s.house.hub.publish(mutedEvent{headOf("muted", time.Now(), s.id.String()), muted})
	if muted {
		s.own.changed(false)
	}
	return nil
}

// leave says goodbye and waits until everything of this seat has ended.
func (s *seat) leave() {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
		defer cancel()
		s.lastStats(func(room.Member) bool { return true })
		s.place.Leave()
		if err := s.room.Leave(ctx); err != nil {
			s.house.log.Info("the goodbye was cut short", "err", err)
		}
		<-s.ended
		s.quit()
		s.tasks.Wait()
		if err := s.voice.Close(); err != nil {
			s.house.hub.publish(newError(wrap(err, exitAudio, "device", "sound was not closed cleanly: %v", err), s.id.String()))
		}
		s.sound.closeSystem()
	})
}
