package node

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"teahouse/internal/mesh"
)

// Leaving a relay. Who is reached through a relay gets addresses of ours with
// libp2p's hole punching (DCUtR), and both dial at once; as soon as a direct
// connection stands, path.go moves voice there as from any carrier to a better
// one. What remains are the session's own stream and the relayed connection:
// the session is replaced by one that stands on the direct connection, and the
// relay is left when nobody needs it.

// directFor is for how long voice must have gone directly, and relayIdle how old
// a relayed connection must be that nobody uses.
const (
	directFor = 3 * time.Second
	relayIdle = 10 * time.Second
)

var errUpgraded = fmt.Errorf("%w: the peer is reached directly now", mesh.ErrClosed)

// leaveRelay replaces a session that stands on a relayed connection, and closes
// that when it is not needed any more. w is how voice goes.
func (s *session) leaveRelay(st *pathState, w *way, now time.Time) {
	if w == nil || w.kind == onRelay {
		st.directly = time.Time{}
		return
	}
	if st.directly.IsZero() {
		st.directly = now
	}
	if st.relayed == nil || now.Sub(st.directly) < directFor {
		return
	}
	if connKind(s.stream.Conn()) == onRelay {
		// Both sides may find so, and the room opens the session anew.
		if s.initiator && s.Err() == nil {
			s.end(errUpgraded, retireFor, true)
		}
		return
	}
	if now.Sub(st.relayed.Stat().Opened) >= relayIdle && !s.node.table.standsOn(st.relayed) {
		c := st.relayed
		s.node.goTracked(func() { _ = c.Close() })
	}
}

// standsOn tells whether a session's stream goes over c.
func (t *table) standsOn(c network.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.peers[c.RemotePeer()] {
		if s.stream.Conn() == c {
			return true
		}
	}
	return false
}
