package room

import (
	"crypto/ed25519"
	"math/rand/v2"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

func rosterEntry(member byte, instance, sequence uint64, flags uint16) *entry {
	return &entry{
		Member: Member{member}, Peer: mesh.PeerIDOf(goldKey(member).Public().(ed25519.PublicKey)),
		Instance: instance, Salt: salt{byte(instance)}, Sequence: sequence, Flags: flags,
	}
}

func TestRosterShow(t *testing.T) {
	now := time.Unix(1e9, 0)
	other := rosterEntry(1, 5, 9, 0)
	other.Salt = salt{99}
	for _, tt := range []struct {
		name  string
		shown []*entry
		want  shown
	}{
		{"the first", []*entry{rosterEntry(1, 5, 1, 0)}, shownJoined},
		{"the same", []*entry{rosterEntry(1, 5, 1, 0), rosterEntry(1, 5, 1, 0)}, shownOld},
		{"an earlier one", []*entry{rosterEntry(1, 5, 2, 0), rosterEntry(1, 5, 1, entryMuted)}, shownOld},
		{"a sign of life", []*entry{rosterEntry(1, 5, 1, 0), rosterEntry(1, 5, 2, 0)}, shownAgain},
		{"a change", []*entry{rosterEntry(1, 5, 1, 0), rosterEntry(1, 5, 2, entryMuted)}, shownChanged},
		{"a restart", []*entry{rosterEntry(1, 5, 8, 0), rosterEntry(1, 6, 1, 0)}, shownRestart},
		{"an older instance", []*entry{rosterEntry(1, 5, 1, 0), rosterEntry(1, 4, 9, 0)}, shownOutdated},
		{"another salt", []*entry{rosterEntry(1, 5, 1, 0), other}, shownClash},
		{"a goodbye", []*entry{rosterEntry(1, 5, 1, 0), rosterEntry(1, 5, 2, entryLeaving)}, shownLeft},
		{"a goodbye of nobody", []*entry{rosterEntry(1, 5, 2, entryLeaving)}, shownOld},
		{"back after a goodbye", []*entry{rosterEntry(1, 5, 1, 0), rosterEntry(1, 5, 2, entryLeaving), rosterEntry(1, 5, 3, 0)}, shownOld},
		{"anew after a goodbye", []*entry{rosterEntry(1, 5, 1, 0), rosterEntry(1, 5, 2, entryLeaving), rosterEntry(1, 6, 1, 0)}, shownJoined},
		{"older after a goodbye", []*entry{rosterEntry(1, 5, 1, 0), rosterEntry(1, 5, 2, entryLeaving), rosterEntry(1, 4, 9, 0)}, shownOutdated},
		{"another salt after a goodbye", []*entry{rosterEntry(1, 5, 1, 0), rosterEntry(1, 5, 2, entryLeaving), other}, shownClash},
	} {
		r := newRoster()
		var got shown
		for _, e := range tt.shown {
			got = r.show(e, now)
		}
		if got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestRosterSilence(t *testing.T) {
	r, now := newRoster(), time.Unix(1e9, 0)
	r.show(rosterEntry(1, 1, 1, 0), now)
	r.show(rosterEntry(2, 1, 1, 0), now.Add(5*time.Second))
	gone, next := r.silent(now.Add(presenceGone - 1))
	if len(gone) != 0 || !next.Equal(now.Add(presenceGone)) {
		t.Errorf("gone %v, next %v", gone, next)
	}
	gone, _ = r.silent(now.Add(presenceGone))
	if len(gone) != 1 || gone[0] != (Member{1}) {
		t.Errorf("gone %v", gone)
	}
	r.remove(gone[0], now)
	if got := r.show(rosterEntry(1, 1, 1, 0), now); got != shownOld {
		t.Errorf("its last entry played again: %d", got)
	}
	if got := r.show(rosterEntry(1, 1, 2, 0), now); got != shownJoined {
		t.Errorf("it says something new: %d", got)
	}
}

// TestRosterIsBoundedAndForward: whatever is shown, there is a bound, and what
// is known of an instance never goes back.
func TestRosterIsBoundedAndForward(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 5))
	r, now := newRoster(), time.Unix(1e9, 0)
	full := 0
	for i := range 20000 {
		now = now.Add(time.Millisecond)
		e := &entry{
			Member: Member{byte(i), byte(random.IntN(4))}, Instance: random.Uint64N(3), Sequence: random.Uint64N(20),
			Flags: uint16(random.IntN(8)) & entryMuted, Salt: salt{byte(random.IntN(2))},
		}
		if random.IntN(20) == 0 {
			e.Flags |= entryLeaving
		}
		before := r.last(e.Member)
		var old entry
		if before != nil {
			old = *before
		}
		if r.show(e, now) == shownFull {
			full++
		}
		if after := r.last(e.Member); before != nil && (after == nil || old.newer(after)) {
			t.Fatalf("went back from %d/%d", old.Instance, old.Sequence)
		}
		if len(r.present) > MaxMembers-1 || len(r.gone) > maxGone {
			t.Fatalf("%d present, %d gone", len(r.present), len(r.gone))
		}
	}
	if full == 0 {
		t.Error("the roster was never full: the test sees nothing")
	}
}

// TestHearsay: whom others show is gone sooner, unless it says something
// itself, and does not count as having done so.
func TestHearsay(t *testing.T) {
	start := time.Unix(1e9, 0)
	gone := func(r *roster, at time.Duration) bool {
		silent, _ := r.silent(start.Add(at))
		return len(silent) == 1
	}
	r := newRoster()
	if what := r.showHearsay(rosterEntry(1, 1, 1, 0), start); what != shownJoined {
		t.Fatal(what)
	}
	p := r.present[rosterEntry(1, 1, 1, 0).Member]
	if p.fresh(start) {
		t.Error("fresh by hearsay")
	}
	if gone(r, presenceFresh-time.Millisecond) || !gone(r, presenceFresh) {
		t.Error("hearsay does not count for presenceFresh")
	}
	r.show(rosterEntry(1, 1, 2, 0), start.Add(time.Second))
	if !p.fresh(start.Add(time.Second+presenceFresh-1)) || p.fresh(start.Add(time.Second+presenceFresh)) {
		t.Error("not fresh for presenceFresh")
	}
	r.showHearsay(rosterEntry(1, 1, 3, 0), start.Add(2*time.Second)) // takes nothing away
	if gone(r, time.Second+presenceGone-1) || !gone(r, time.Second+presenceGone) {
		t.Error("its own word does not count for presenceGone")
	}
	r.showHearsay(rosterEntry(1, 1, 4, 0), start.Add(14*time.Second))
	if gone(r, 14*time.Second+presenceFresh-1) || !gone(r, 14*time.Second+presenceFresh) {
		t.Error("hearsay does not prolong")
	}
}
