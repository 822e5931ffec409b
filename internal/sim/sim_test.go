package sim

import (
	"strings"
	"testing"
	"time"

	"teahouse/internal/mesh"
	"teahouse/room"
)

// three is a room of three that talk, on a ground; then one is killed, one
// leaves and comes back.
func three(ground Ground) Scenario {
	return Scenario{
		Name: "three", Seed: 1, People: 3, Ground: ground, Wire: Wire{Delay: 20 * time.Millisecond},
		Steps: []Step{
			{0, Join{[]int{0, 1, 2}}},
			{time.Second, Settle{Within: 5 * time.Second}},
			{time.Second, Mark{"talk"}},
			{time.Second, Talk{[]int{0, 1, 2}}},
			{3 * time.Second, Talk{}},
			{3*time.Second + 200*time.Millisecond, Hark{}},
			{4 * time.Second, Kill{2}},
			{4 * time.Second, Settle{Within: 17 * time.Second}},
			{5 * time.Second, Leave{1}},
			{7 * time.Second, JoinAgain{1}},
			{7 * time.Second, Join{[]int{2}}},
			{7 * time.Second, Settle{Within: 10 * time.Second}},
			{8 * time.Second, Mark{"again"}},
			{8 * time.Second, Talk{[]int{0, 1, 2}}},
			{9 * time.Second, Talk{}},
			{9*time.Second + 200*time.Millisecond, Hark{}},
		},
		For: 10 * time.Second,
	}
}

// TestThree: on good wires everything is heard, after exactly the wires' delay,
// on both grounds.
func TestThree(t *testing.T) {
	for name, ground := range map[string]Ground{"memory": Memory, "internet": Internet} {
		t.Run(name, func(t *testing.T) {
			r := Run(t, three(ground))
			r.Report(t)
			for _, window := range []string{"talk", "again"} {
				h, first, _ := r.Window(window).All()
				if h.Expected == 0 || h.Lost+h.Repaired > 0 {
					t.Errorf("while %s: %+v", window, h)
				}
				if least, most := first.Quantile(0), first.Quantile(1); least < 20*time.Millisecond || most > 21*time.Millisecond {
					t.Errorf("while %s frames took %v to %v", window, least, most)
				}
			}
			if want := 3 * (100 + 50); len(r.Settled) != 3 || r.Lives != 5 || r.Window("talk") == nil || r.Sealed < want {
				t.Errorf("%d settled, %d lives, %d seals", len(r.Settled), r.Lives, r.Sealed)
			}
		})
	}
}

// TestSettleFinds: what is not so is told, and where.
func TestSettleFinds(t *testing.T) {
	s := three(Memory)
	s.Steps = s.Steps[:7]                                                                                // up to the kill
	s.Steps = append(s.Steps, Step{4 * time.Second, Settle{Within: time.Second, Patience: time.Second}}) // which takes 15 s to see
	r := Run(t, s)
	if len(r.Violations) != 1 || !strings.Contains(r.Violations[0].What, "sees 3 people where there are 2") || r.Violations[0].Step != 8 {
		t.Errorf("%v", r.Violations)
	}
	if last := r.Settled[len(r.Settled)-1]; last.Why == "" || last.All < time.Second {
		t.Errorf("%+v", last)
	}
}

// TestHarkFinds: who hears nothing is told.
func TestHarkFinds(t *testing.T) {
	s := three(Memory)
	s.Steps = s.Steps[:6]
	deaf := Step{time.Second, SetWire{From: 1, To: 0, Wire: Wire{Delay: 20 * time.Millisecond, Loss: Loss{Rate: 0.999}}}}
	s.Steps = append(s.Steps[:2:2], append([]Step{deaf}, s.Steps[2:]...)...)
	r := Run(t, s)
	if len(r.Violations) != 1 || !strings.Contains(r.Violations[0].What, "person 0 (life 1) heard nothing") {
		t.Errorf("%v", r.Violations)
	}
}

// TestTheDeadStayApart: when all have died who were on one side of a split,
// nothing of what they had said comes over.
func TestTheDeadStayApart(t *testing.T) {
	r := Run(t, Scenario{
		Name: "dead apart", Seed: 1, People: 4, Wire: Wire{Delay: 20 * time.Millisecond},
		Steps: []Step{
			{0, Join{[]int{0, 1, 2}}},
			{time.Second, Settle{Within: 5 * time.Second}},
			{5 * time.Second, Split{[][]int{{0}}}},
			{14 * time.Second, Kill{0}}, // it has said something since
			{14 * time.Second, Join{[]int{3}}},
		},
		For: 40 * time.Second,
	})
	r.Report(t)
	if ghost := r.Longest[ghosts]; ghost < 10*time.Second || ghost > 15*time.Second {
		t.Errorf("shown for %v after the cut", ghost)
	}
}

// TestUnseenIsFound: a key or voice that goes to somebody who is not in the
// roster is seen by the tap.
func TestUnseenIsFound(t *testing.T) {
	s := three(Memory)
	s.Steps = s.Steps[:2]
	s.Steps = append(s.Steps, Step{time.Second, Look{func(p *Present) {
		l := p.world.people[0].here()
		stranger := mesh.PeerIDOf(make([]byte, 32))
		session := &tapSession{silentSession{peer: stranger}, l}
		_ = session.Send(mesh.Urgent, []byte{messageEpoch})
		p.world.people[0].talk()
		// As if the room had sent it while it spoke.
		l.tapped.voiceTo[stranger] = true
	}}})
	r := Run(t, s)
	if len(r.Violations) != 2 || !strings.Contains(r.Violations[0].What, "handed an epoch") || !strings.Contains(r.Violations[1].What, "sent voice") {
		t.Errorf("%v", r.Violations)
	}
}

// silentSession is a session with a peer that hears nothing.
type silentSession struct {
	mesh.Session
	peer mesh.PeerID
}

func (s silentSession) Peer() mesh.PeerID                { return s.peer }
func (s silentSession) Send(mesh.Priority, []byte) error { return nil }

// TestClaimLoss: what the tap writes into reports is read by rooms as it was
// meant.
func TestClaimLoss(t *testing.T) {
	for depth := range 4 {
		s := three(Memory)
		s.Steps = s.Steps[:6]
		s.Steps = append([]Step{{0, Depth{depth}}}, s.Steps...)
		var links []room.LinkInfo
		s.Steps = append(s.Steps, Step{4 * time.Second, Look{func(p *Present) { links = p.Room(1).Links() }}})
		Run(t, s).Report(t)
		if len(links) != 2 || links[0].Depth != depth || links[1].Depth != depth {
			t.Errorf("depth %d: %+v", depth, links)
		}
	}
}
