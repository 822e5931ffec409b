package room

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWhatIsShown: what a member says of itself is shown by the others, with
// events, and on its way before the call returns.
func TestWhatIsShown(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b", func(c *Config) { c.Muted = true })
		s.gather(3 * time.Second)
		shown := func() MemberInfo { return a.room.Members()[1] }
		if m := shown(); m.Nick != "b" || !m.Muted || m.Recording || m.Self || m.Role != "speaker" || m.Peer != b.node.Self().ID {
			t.Fatalf("shown at first: %+v", m)
		}
		if m := a.room.Members()[0]; !m.Self || m.Member != a.member() {
			t.Errorf("the first member is %+v, want self", m)
		}
		events := a.room.Subscribe()
		drain(t, events)
		for _, tt := range []struct {
			name   string
			change func() error
			ok     func(MemberInfo) bool
			kinds  []EventKind
		}{
			{"unmuted", func() error { return b.room.SetMuted(false) }, func(m MemberInfo) bool { return !m.Muted }, []EventKind{EventMember}},
			{"recording", func() error { return b.room.SetRecording(true) }, func(m MemberInfo) bool { return m.Recording }, []EventKind{EventMember, EventRecording}},
			{"recording again", func() error { return b.room.SetRecording(true) }, func(m MemberInfo) bool { return m.Recording }, nil},
			{"not recording", func() error { return b.room.SetRecording(false) }, func(m MemberInfo) bool { return !m.Recording }, []EventKind{EventMember, EventRecording}},
			{"allows", func() error { return b.room.SetAllowRecording(true) }, func(m MemberInfo) bool { return m.AllowRecording }, []EventKind{EventMember}},
			{"nick", func() error { return b.room.SetNick("Bee") }, func(m MemberInfo) bool { return m.Nick == "Bee" }, []EventKind{EventMember}},
			{"listens", func() error { return b.room.SetListenOnly(true) }, func(m MemberInfo) bool { return m.ListenOnly }, []EventKind{EventMember}},
		} {
			if err := tt.change(); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			// One trip over the wire is all that it may take from here.
			time.Sleep(lan.Latency + time.Millisecond)
			synctest.Wait()
			if m := shown(); !tt.ok(m) {
				t.Errorf("%s: shown as %+v", tt.name, m)
			}
			var kinds []EventKind
			for _, e := range drain(t, events) {
				if e.Member == b.member() && e.Kind != EventLink {
					kinds = append(kinds, e.Kind)
					if !tt.ok(e.Info) {
						t.Errorf("%s: event with %+v", tt.name, e.Info)
					}
				}
			}
			if len(kinds) != len(tt.kinds) {
				t.Errorf("%s: events %v, want %v", tt.name, kinds, tt.kinds)
			}
		}
		if err := b.room.SetNick("two\nlines"); err == nil {
			t.Error("a bad nickname was taken")
		}
	})
}

// TestMutedSaysNothing: not one frame leaves after SetMuted(true), and those
// after SetMuted(false) are heard.
func TestMutedSaysNothing(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(3 * time.Second)
		s.talk(5, a)
		if err := a.room.SetMuted(true); err != nil {
			t.Fatal(err)
		}
		s.talk(5, a)
		if err := a.room.SetMuted(false); err != nil {
			t.Fatal(err)
		}
		s.talk(5, a)
		got := b.numbers(a)
		if len(got) != 10 || got[4] != 4 || got[5] != 10 {
			t.Errorf("heard %v, want 0 to 4 and 10 to 14", got)
		}
		if l := b.room.Links()[0]; l.Lost != 0 {
			t.Errorf("muting counts as %d lost", l.Lost)
		}
	})
}

// TestSubscribeTellsTheState: a view that comes late sees what is.
func TestSubscribeTellsTheState(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b", func(c *Config) { c.Recording = true })
		s.gather(3 * time.Second)
		events := a.room.Subscribe()
		got := drain(t, events)
		want := []EventKind{EventJoined, EventMember, EventRecording, EventLink}
		if len(got) != len(want) {
			t.Fatalf("%d events: %+v", len(got), got)
		}
		for i, e := range got {
			if e.Kind != want[i] || e.Time.IsZero() || e.Kind != EventJoined && e.Member != b.member() {
				t.Errorf("event %d is %+v, want %s", i, e, want[i])
			}
		}
		if got[0].Others != 1 {
			t.Errorf("joined with %d others, want 1", got[0].Others)
		}
		a.leave()
		e := drain(t, events)
		if last := e[len(e)-1]; last.Kind != EventLeft || last.Err != nil {
			t.Errorf("the last event is %+v", last)
		}
		late := drain(t, a.room.Subscribe())
		if len(late) != 1 || late[0].Kind != EventLeft {
			t.Errorf("a view that comes after the end sees %+v", late)
		}
	})
}
