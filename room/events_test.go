package room

import (
	"context"
	"errors"
	"testing"
)

func drain(t *testing.T, s *Subscription) (events []Event) {
	t.Helper()
	for {
		e, ok, _ := s.pop()
		if !ok {
			return events
		}
		events = append(events, e)
	}
}

func TestSubscriptionCoalesces(t *testing.T) {
	a, b := Member{1}, Member{2}
	member := func(m Member, state, nick string) Event {
		return Event{Kind: EventMember, Member: m, State: state, Info: MemberInfo{Nick: nick}}
	}
	link := func(state string) Event { return Event{Kind: EventLink, Member: a, State: state} }
	tests := []struct {
		name       string
		push, want []Event
	}{
		{
			"a change takes the place of an earlier one",
			[]Event{member(a, "changed", "x"), member(b, "changed", "y"), member(a, "changed", "z")},
			[]Event{member(a, "changed", "z"), member(b, "changed", "y")},
		},
		{
			"who came and changed has come as changed",
			[]Event{member(a, "in", "x"), member(a, "changed", "z")},
			[]Event{member(a, "in", "z")},
		},
		{
			"coming and going stay",
			[]Event{member(a, "in", "x"), member(a, "out", "x"), member(a, "in", "x"), member(a, "changed", "y")},
			[]Event{member(a, "in", "x"), member(a, "out", "x"), member(a, "in", "y")},
		},
		{
			"a link that goes and returns is shown",
			[]Event{link("up"), link("up"), link("down"), link("up")},
			[]Event{link("up"), link("down"), link("up")},
		},
		{
			"the last epoch counts",
			[]Event{{Kind: EventEpoch, Number: 1}, {Kind: EventEpoch, Number: 2}},
			[]Event{{Kind: EventEpoch, Number: 2}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSubscription(func(*Subscription) {})
			for _, e := range tt.push {
				s.push(e)
			}
			got := drain(t, s)
			if len(got) != len(tt.want) {
				t.Fatalf("got %d events, want %d: %+v", len(got), len(tt.want), got)
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("event %d is %+v, want %+v", i, got[i], tt.want[i])
				}
			}
		})
	}
}

func TestSubscriptionIsBounded(t *testing.T) {
	s := newSubscription(func(*Subscription) {})
	for i := range 3 * eventQueue {
		s.push(Event{Kind: EventError, Number: uint32(i)})
	}
	s.push(Event{Kind: EventLeft})
	s.push(Event{Kind: EventError}) // after the last: dropped
	got := drain(t, s)
	if len(got) != eventQueue {
		t.Fatalf("%d events queued, want %d", len(got), eventQueue)
	}
	if got[len(got)-1].Kind != EventLeft {
		t.Errorf("the last event is %q, want left", got[len(got)-1].Kind)
	}
	if first := got[0].Number; first != 2*eventQueue+1 {
		t.Errorf("the oldest kept event is %d, want %d", first, 2*eventQueue+1)
	}
	if _, err := s.Next(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Next after left: %v, want ErrClosed", err)
	}
}

func TestSubscriptionNextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	forgotten := false
	s := newSubscription(func(*Subscription) { forgotten = true })
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next with an ended context: %v", err)
	}
	s.Close()
	s.Close()
	if _, err := s.Next(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Next after Close: %v", err)
	}
	if !forgotten {
		t.Error("a closed subscription was not forgotten")
	}
}
