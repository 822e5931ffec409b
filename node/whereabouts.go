package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	kbucket "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// Where those with whom we have sessions are now. A peer that moves tells all
// whom it still reaches (by libp2p's identify), and dials us; but two that move
// in the same moment reach each other no more, and nobody's old address is of
// use. Then we ask those who may have been told: members of the same rooms,
// the peers that we started from, those who stand near to the peer in the DHT.
// Each node of the DHT answers FIND_NODE with what it knows of the peer; the
// DHT's own search would not ask, because to libp2p a dead connection is one
// for half a minute.

const (
	// askedAtOnce is how many are asked, askWhere how long they may take, and
	// askEvery the time between two rounds.
	askedAtOnce = 6
	askWhere    = 2 * time.Second
	askEvery    = time.Second
	// roundsPerSecond and roundsAtOnce bound the rounds of one node: who loses a
	// hundred members in a split must not flood those who remain.
	roundsPerSecond = 4
	roundsAtOnce    = 8
	// maxWhere bounds an answer: 20 peers, each with a dozen addresses.
	maxWhere = 64 << 10
)

// whereabouts are the addresses of peers in the order in which they were told.
type whereabouts struct {
	mu    sync.Mutex
	peers map[peer.ID][]ma.Multiaddr // the latest first, at most mesh.MaxAddrs

	// Of the bucket of rounds.
	asked time.Time
	spent float64
}

// mayAsk tells whether another round may be asked now, and counts it.
func (w *whereabouts) mayAsk(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spent = max(0, w.spent-roundsPerSecond*now.Sub(w.asked).Seconds())
	w.asked = now
	if w.spent+1 > roundsAtOnce {
		return false
	}
	w.spent++
	return true
}

// told takes in addresses of p; news tells that some of them were not known.
// What p says itself of now comes first; what others say may be old, unless it
// is new to us.
func (w *whereabouts) told(p peer.ID, addrs []ma.Multiaddr, itself bool) (news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.peers[p]
	var first []ma.Multiaddr
	for _, a := range addrs[:min(len(addrs), mesh.MaxAddrs)] {
		known := slices.ContainsFunc(old, a.Equal)
		if itself || !known {
			first = append(first, a)
		}
		news = news || !known
	}
	for _, a := range old {
		if len(first) < mesh.MaxAddrs && !slices.ContainsFunc(first, a.Equal) {
			first = append(first, a)
		}
	}
	if w.peers == nil {
		w.peers = make(map[peer.ID][]ma.Multiaddr)
	}
	w.peers[p] = first
	return news
}

// of is where p may be.
func (w *whereabouts) of(p peer.ID) []ma.Multiaddr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.peers[p])
}

// forget drops what is known of p.
func (w *whereabouts) forget(p peer.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.peers, p)
}

// hearWhere takes in where p says, or others say, that it is. What is news of
// somebody with whom we have a session is used at once.
func (n *Node) hearWhere(p peer.ID, addrs []ma.Multiaddr, itself bool) {
	if !n.table.knows(p) {
		return
	}
	n.host.Peerstore().AddAddrs(p, addrs, peerstore.TempAddrTTL)
	if n.whereabouts.told(p, addrs, itself) {
		n.log.Debug("told where a peer is", "peer", mesh.PeerID(p), "addresses", len(addrs))
		n.pings.hurry(time.Now(), p)
		n.table.rush(p)
	}
}

// askWhere asks others where p is.
func (n *Node) askWhere(p peer.ID) {
	ctx, cancel := context.WithTimeout(n.ctx, askWhere)
	defer cancel()
	var asked sync.WaitGroup
	for _, via := range n.whoMayKnow(p) {
		asked.Go(func() {
			addrs, err := n.whereFrom(ctx, via, p)
			if err != nil {
				n.log.Debug("not told where a peer is", "peer", mesh.PeerID(p), "by", mesh.PeerID(via), "err", err)
				return
			}
			n.hearWhere(p, addrs, false)
		})
	}
	asked.Wait()
}

// whoMayKnow are connected peers that may know where p is.
func (n *Node) whoMayKnow(p peer.ID) (who []peer.ID) {
	now := time.Now()
	add := func(all []peer.ID, most int) {
		for _, o := range all {
			if most == 0 || len(who) == askedAtOnce {
				return
			}
			if o != p && !slices.Contains(who, o) && n.reaches(o, now) {
				who = append(who, o)
				most--
			}
		}
	}
	var started []peer.ID
	for _, o := range n.host.Network().Peers() {
		if n.host.ConnManager().IsProtected(o, bootstrapTag) {
			started = append(started, o)
		}
	}
	add(n.table.members(), askedAtOnce/3)
	add(started, askedAtOnce/3)
	add(n.dht.RoutingTable().NearestPeers(kbucket.ConvertPeerID(p), 2*askedAtOnce), askedAtOnce)
	return who
}

// whereFrom asks one peer.
func (n *Node) whereFrom(ctx context.Context, via, p peer.ID) ([]ma.Multiaddr, error) {
	st, err := n.host.NewStream(network.WithNoDial(ctx, "where a peer is"), via, n.dhtProtocol)
	if err != nil {
		return nil, fmt.Errorf("ask: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	defer func() { _ = st.Reset() }()
	if err := pbio.NewDelimitedWriter(st).WriteMsg(dhtpb.NewMessage(dhtpb.Message_FIND_NODE, []byte(p), 0)); err != nil {
		return nil, fmt.Errorf("ask: %w", err)
	}
	return readWhere(st, p)
}

var errNotKnown = errors.New("the peer is not known there")

// readWhere reads an answer to FIND_NODE, and what it says of p.
func readWhere(r io.Reader, p peer.ID) ([]ma.Multiaddr, error) {
	var m dhtpb.Message
	if err := pbio.NewDelimitedReader(r, maxWhere).ReadMsg(&m); err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	for _, info := range m.GetCloserPeers() {
		if string(info.GetId()) != string(p) {
			continue
		}
		var addrs []ma.Multiaddr
		for _, a := range usable(info.Addresses()) {
			if len(addrs) == mesh.MaxAddrs {
				break
			}
			addrs = append(addrs, a)
		}
		if len(addrs) > 0 {
			return addrs, nil
		}
	}
	return nil, errNotKnown
}
