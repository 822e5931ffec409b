package sim

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"teahouse/internal/mesh"
	"teahouse/room"
)

// agreeing are views of people who agree in everything, each in the life 1.
func agreeing(n int) (views []view, whose func(mesh.PeerID) (identity, bool)) {
	people := make(map[mesh.PeerID]identity)
	var roster []room.MemberInfo
	for who := range n {
		m := room.MemberInfo{
			Member: room.Member{byte(who)}, Peer: mesh.PeerIDOf([]byte(fmt.Sprintf("%032d", who))), Instance: 3, Nick: fmt.Sprint("p", who),
		}
		people[m.Peer] = identity{who: who, member: m.Member, instance: 3, lives: 1}
		roster = append(roster, m)
	}
	for who := range n {
		v := view{who: who, number: 1, peer: roster[who].Peer, known: known{number: 7, origin: [32]byte{1}, id: [16]byte{7}}}
		v.roster = append(v.roster, roster...)
		views = append(views, v)
	}
	return views, func(peer mesh.PeerID) (identity, bool) { id, ok := people[peer]; return id, ok }
}

// without takes somebody out of a roster.
func without(roster []room.MemberInfo, who int) []room.MemberInfo {
	return append(append([]room.MemberInfo(nil), roster[:who]...), roster[who+1:]...)
}

// TestInvariantsFind: each thing that must not be is found when it has lasted
// for too long, and not before, and is told once.
func TestInvariantsFind(t *testing.T) {
	const patience = time.Minute
	for _, test := range []struct {
		name string
		// breaks changes what is seen after a time; nobody is there whom it
		// leaves out.
		breaks func(v *invariants, views []view) []view
		most   time.Duration // how long it may last
		want   string        // empty: nothing is wrong
	}{
		{"all agree", func(_ *invariants, views []view) []view { return views }, 0, ""},
		{"nobody there", func(*invariants, []view) []view { return nil }, 0, ""},
		{"somebody invented", func(_ *invariants, views []view) []view {
			views[0].roster = append(views[0].roster, room.MemberInfo{Peer: mesh.PeerIDOf(make([]byte, 32)), Nick: "p9"})
			return views
		}, 0, "whom there never was"},
		{"another member on a known peer", func(_ *invariants, views []view) []view {
			views[0].roster[1].Member[5] = 1
			return views
		}, 0, "whom there never was"},
		{"another name", func(_ *invariants, views []view) []view {
			views[0].roster[1].Nick = "p2"
			return views
		}, 0, `shows person 1 as "p2"`},
		{"an instance to come", func(_ *invariants, views []view) []view {
			views[0].roster[1].Instance = 4
			return views
		}, 0, "shows instance 4 of person 1, who has come to 3"},
		{"somebody twice", func(_ *invariants, views []view) []view {
			views[0].roster = append(views[0].roster, views[0].roster[1])
			return views
		}, 0, "shows person 1 twice"},
		{"not oneself", func(_ *invariants, views []view) []view {
			views[1].roster = without(views[1].roster, 1)
			return views
		}, 0, "shows itself 0 times"},
		{"somebody gone", func(_ *invariants, views []view) []view {
			views[0].roster = without(views[0].roster, 2)
			return views[:2]
		}, ghostMost, "person 1 (life 1) has shown person 2, who is gone or out of reach"},
		{"somebody cut off", func(_ *invariants, views []view) []view {
			views[2].group = 1
			views[0].roster, views[1].roster, views[2].roster = without(views[0].roster, 2), without(views[1].roster, 2), views[2].roster[1:]
			return views
		}, ghostMost, "person 2 (life 1) has shown person 1, who is gone or out of reach"},
		{"somebody not shown", func(v *invariants, views []view) []view {
			v.seen[seeing{0, 1, views[2].peer}] = true // it was
			views[0].roster = without(views[0].roster, 2)
			return views
		}, patience, "person 0 (life 1) has not shown person 2 (life 1)"},
		{"two keys", func(_ *invariants, views []view) []view {
			views[2].known = known{number: 7, origin: [32]byte{2}, id: [16]byte{8}}
			return views
		}, patience, "person 0 (life 1) has been in epoch 7 of 010000 and person 2 (life 1) in epoch 7 of 020000"},
		{"no key", func(_ *invariants, views []view) []view {
			views[0].known, views[1].known, views[2].known = known{}, known{}, known{}
			return views
		}, patience, "epoch 0"},
		{"a stranger with the key", func(_ *invariants, views []view) []view {
			views[0].roster = without(views[0].roster, 2)
			return views
		}, strangerMost, "which person 2 (life 1) holds without ever having been shown"},
		{"somebody gone who can follow", func(v *invariants, views []view) []view {
			gone := views[2]
			v.end(&ended{who: 2, number: 1, peer: gone.peer, at: begun, held: map[[32]byte]uint32{{1}: 7}})
			views[0].roster, views[1].roster = without(views[0].roster, 2), without(views[1].roster, 2)
			return views[:2]
		}, heldMost + strangerMost, "to which person 2 can follow"},
		{"somebody gone who holds another origin", func(v *invariants, views []view) []view {
			v.end(&ended{who: 2, number: 1, peer: views[2].peer, at: begun, held: map[[32]byte]uint32{{2}: 7}})
			views[0].roster, views[1].roster = without(views[0].roster, 2), without(views[1].roster, 2)
			return views[:2]
		}, 0, ""},
		{"somebody gone who was behind the number", func(v *invariants, views []view) []view {
			v.end(&ended{who: 2, number: 1, peer: views[2].peer, at: begun, held: map[[32]byte]uint32{{1}: 8}})
			views[0].roster, views[1].roster = without(views[0].roster, 2), without(views[1].roster, 2)
			return views[:2]
		}, 0, ""},
		{"somebody gone who has come back", func(v *invariants, views []view) []view {
			v.end(&ended{who: 2, number: 0, peer: views[2].peer, at: begun, held: map[[32]byte]uint32{{1}: 7}})
			return views
		}, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			views, whose := agreeing(3)
			v := newInvariants(patience, whose)
			views = test.breaks(v, views)
			told := 0
			for after := time.Duration(0); after < 2*heldMost; after += time.Second {
				for _, what := range v.check(begun.Add(after), 0, views) {
					switch {
					case test.want == "":
						t.Fatalf("after %v: %s", after, what)
					case strings.Contains(what, test.want):
						if told++; after > test.most+2*time.Second && test.most > 0 || after < test.most {
							t.Fatalf("after %v, not %v: %s", after, test.most, what)
						}
					}
				}
				if test.most == 0 && test.want != "" {
					break
				}
			}
			if told == 0 && test.want != "" {
				t.Errorf("%q was not found", test.want)
			}
			if told > 3 { // each of those who see it tells it
				t.Errorf("%q was told %d times", test.want, told)
			}
		})
	}
}

var begun = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// TestInvariantsForgive: what begins anew may last anew.
func TestInvariantsForgive(t *testing.T) {
	views, whose := agreeing(3)
	v := newInvariants(time.Minute, whose)
	broken, _ := agreeing(3)
	broken[0].roster = without(broken[0].roster, 2)
	now, cuts := begun, 0
	for range 5 {
		for range 9 { // below strangerMost
			now = now.Add(time.Second)
			if wrong := v.check(now, cuts, broken); len(wrong) > 0 {
				t.Fatal(wrong)
			}
		}
		now = now.Add(time.Second)
		if wrong := v.check(now, cuts, views); len(wrong) > 0 {
			t.Fatal(wrong)
		}
	}
	for range 5 {
		cuts++ // and what was said before may arrive
		for range 16 {
			now = now.Add(time.Second)
			if wrong := v.check(now, cuts, views[:2]); len(wrong) > 0 {
				t.Fatal(wrong)
			}
		}
	}
	if len(v.since) > 4 {
		t.Errorf("%d conditions are remembered", len(v.since))
	}
}

// TestLooksFind: what a look at running rooms shows wrongly is a violation, at
// the look.
func TestLooksFind(t *testing.T) {
	for _, test := range []struct {
		name   string
		doctor func(views []view)
		want   string
	}{
		{"roster", func(views []view) { views[0].roster = views[0].roster[:1] }, "has not shown"},
		{"key", func(views []view) { views[0].known.id[0]++ }, "has been in epoch"},
		{"self", func(views []view) { views[0].roster = views[0].roster[1:] }, "shows itself 0 times"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := three(Memory)
			s.Steps = s.Steps[:2]
			s.Steps = append(s.Steps, Step{2 * time.Second, Look{func(p *Present) {
				p.world.doctor = func(views []view) {
					if len(views) == 3 {
						test.doctor(views)
					}
				}
			}}})
			s.For = 2*time.Second + churnPatience + 5*time.Second
			r := Run(t, s)
			if len(r.Violations) == 0 || !strings.Contains(r.Violations[0].What, test.want) {
				t.Errorf("%v", r.Violations)
			}
		})
	}
}

// TestClaimsFind: two secrets under one name, and one under two.
func TestClaimsFind(t *testing.T) {
	for _, test := range []struct {
		name  string
		claim func(k *known)
		want  string
	}{
		{"another secret", func(k *known) { k.id[0]++ }, "holds another secret than others as"},
		{"another number", func(k *known) { k.number++ }, "the secret of epoch"},
		{"another origin", func(k *known) { k.origin[0]++ }, "the secret of epoch"},
		{"none", func(k *known) { *k = known{} }, ""},
		{"the same", func(*known) {}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := three(Memory)
			s.Steps = s.Steps[:2]
			s.Steps = append(s.Steps, Step{2 * time.Second, Look{func(p *Present) {
				l := p.world.people[0].here()
				k, _ := l.look()
				test.claim(&k)
				_ = (&tapSession{silentSession{peer: l.peer}, l}).Send(mesh.Urgent, k.append(nil))
				_, _ = l.look()
			}}})
			r := Run(t, s)
			// At the end they leave, say KNOWN once more, and it is the truth that differs.
			if found := len(r.Violations) > 0 && strings.Contains(r.Violations[0].What, test.want); found != (test.want != "") {
				t.Errorf("%v", r.Violations)
			}
		})
	}
}

// append writes the message KNOWN, as far as the tap reads it.
func (k known) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, messageKnown), k.number)
	dst = append(dst, make([]byte, 6)...) // origin number and removals
	dst = append(dst, k.origin[:]...)
	return append(append(dst, k.id[:]...), 0) // flags
}
