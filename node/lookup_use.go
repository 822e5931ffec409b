package node

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// Putting records and finding providers, by lookups of ours (lookup.go).

const (
	// lookupTime is the longest that putting one record takes.
	lookupTime = 15 * time.Second
	// lookupStarters is how many of those that we start from get each record and
	// are asked for it, wherever they stand: the network's owner has candidate them,
	// and who knows nobody else begins there anyway.
	lookupStarters = 4
	// lookupAwait is how long a search that would be over waits for one of those
	// that we start from, where none is connected yet: whoever calls on a node
	// that has just begun is its only neighbour for a moment.
	lookupAwait = 5 * time.Second
	// toldAtOnce is how many providers that nobody else names are believed in
	// one answer at once; the others wait until the end, or until another names
	// them too. toldMost is how many of an answer count at all.
	toldAtOnce = 8
	toldMost   = 32
	// toldAgain is how often one provider is told of, where addresses come in
	// later that were not known.
	toldAgain = 4
)

var errNobodyTook = errors.New("no node of the network took the record")

// seed has a lookup begin, or go on, with those we know. started are those
// among them that we start from.
func (n *Node) seed(l *lookup) (started []peer.ID) {
	add := func(ids []peer.ID) {
		for _, id := range ids {
			l.hear("", []peer.AddrInfo{{ID: id, Addrs: n.host.Peerstore().Addrs(id)}})
		}
	}
	for _, p := range n.host.Network().Peers() {
		if n.host.ConnManager().IsProtected(p, bootstrapTag) {
			started = append(started, p)
		}
	}
	slices.SortFunc(started, func(a, b peer.ID) int { return slices.Compare(distance(l.target, a), distance(l.target, b)) })
	started = started[:min(len(started), lookupStarters)]
	add(started)
	for _, id := range started {
		if p := l.peers[id]; p != nil {
			p.first = true
		}
	}
	add(n.dht.RoutingTable().NearestPeers(l.target, lookupReplicas))
	return started
}

// asked asks one peer, and connects first where that is needed. Who does not
// answer is no use to the routing table.
func (n *Node) ask(ctx context.Context, p peer.AddrInfo, m *dhtpb.Message) (told, error) {
	answer, err := func() (*dhtpb.Message, error) {
		if n.host.Network().Connectedness(p.ID) != network.Connected {
			if err := n.host.Connect(ctx, peer.AddrInfo{ID: p.ID, Addrs: fewUsable(p.Addrs)}); err != nil {
				return nil, err
			}
		}
		return n.dht.MessageSender().SendRequest(ctx, p.ID, m)
	}()
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) {
			n.dht.RoutingTable().RemovePeer(p.ID)
		}
		return told{}, err
	}
	n.dht.RoutingTable().UpdateLastUsefulAt(p.ID, time.Now())
	return told{closer: infosOf(answer.GetCloserPeers(), lookupNamed), providers: infosOf(answer.GetProviderPeers(), toldMost)}, nil
}

// infosOf are most peers of an answer, any where there are more, with
// addresses that can be used.
func infosOf(all []*dhtpb.Message_Peer, most int) (out []peer.AddrInfo) {
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, p := range all[:min(len(all), most)] {
		out = append(out, peer.AddrInfo{ID: peer.ID(p.GetId()), Addrs: fewUsable(p.Addresses())})
	}
	return out
}

// provideOnce puts the record of this node on those who stand nearest to key,
// and on those that we start from. A node gets it as soon as it has answered
// and is the nearest so far: on the way to the end of a lookup that somebody
// holds up, others find it already.
func (n *Node) provideOnce(ctx context.Context, key cid.Cid) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	if err := n.dht.Provide(ctx, key, false); err != nil { // what we answer ourselves
		return err
	}
	l := newLookup(n.host.ID(), key.Hash())
	record := dhtpb.NewMessage(dhtpb.Message_ADD_PROVIDER, key.Hash(), 0)
	self := peer.AddrInfo{ID: n.host.ID(), Addrs: n.dht.FilteredAddrs()}
	if len(self.Addrs) == 0 {
		return errors.New("this node has no address that others could use")
	}
	record.ProviderPeers = dhtpb.RawPeerInfosToPBPeers([]peer.AddrInfo{self})
	var puts sync.WaitGroup
	var taken atomic.Int64
	has := make(map[peer.ID]bool)
	put := func(p peer.ID) {
		if has[p] {
			return
		}
		has[p] = true
		puts.Add(1)
		if !n.goTracked(func() {
			defer puts.Done()
			ctx, cancel := context.WithTimeout(ctx, lookupPatience)
			defer cancel()
			if n.dht.MessageSender().SendMessage(ctx, p, record) == nil {
				taken.Add(1)
			}
		}) {
			puts.Done()
		}
	}
	where := dhtpb.NewMessage(dhtpb.Message_FIND_NODE, key.Hash(), 0)
	l.walk(ctx, surroundings{
		run: n.goTracked,
		ask: func(ctx context.Context, p peer.AddrInfo) (told, error) { return n.ask(ctx, p, where) },
		heard: func(p *candidate, _ told) {
			if slices.Contains(l.nearest(lookupReplicas), p) {
				put(p.info.ID)
			}
		},
		seed: func() (<-chan struct{}, bool) {
			for _, p := range n.seed(l) {
				put(p)
			}
			return nil, false
		},
	})
	puts.Wait()
	if taken.Load() == 0 {
		return cmp.Or(ctx.Err(), errNobodyTook)
	}
	return nil
}

// findProviders tells of peers that are said to provide key, those first that
// more than one says it of.
func (n *Node) findProviders(ctx context.Context, key cid.Cid, found func(mesh.Peer)) error {
	t := saying{self: n.host.ID(), peers: make(map[peer.ID]*provider), found: found}
	own, err := n.dht.ProviderStore().GetProviders(ctx, key.Hash())
	if err != nil {
		return err
	}
	t.take(own)
	l := newLookup(n.host.ID(), key.Hash())
	question := dhtpb.NewMessage(dhtpb.Message_GET_PROVIDERS, key.Hash(), 0)
	l.walk(ctx, surroundings{
		run:   n.goTracked,
		ask:   func(ctx context.Context, p peer.AddrInfo) (told, error) { return n.ask(ctx, p, question) },
		heard: func(_ *candidate, answer told) { t.take(answer.providers) },
		limit: time.Now().Add(lookupAwait),
		seed: func() (news <-chan struct{}, wait bool) {
			news = n.booted.wait()
			return news, len(n.seed(l)) == 0 && n.starters.any()
		},
	})
	t.rest()
	return nil
}

// saying counts who says of whom that it provides.
type saying struct {
	self  peer.ID
	found func(mesh.Peer)
	peers map[peer.ID]*provider
	count int // told of
}

type provider struct {
	id    peer.ID
	addrs []ma.Multiaddr
	votes int
	times int // told of
}

// take takes in one answer.
func (t *saying) take(answer []peer.AddrInfo) {
	alone := 0
	seen := make(map[peer.ID]bool, len(answer))
	for _, info := range answer {
		if info.ID == t.self || seen[info.ID] || !validPeer(info.ID) {
			continue
		}
		seen[info.ID] = true
		p := t.peers[info.ID]
		if p == nil {
			p = &provider{id: info.ID}
			t.peers[info.ID] = p
		}
		p.votes++
		news := p.learn(info.Addrs)
		switch {
		case p.times > 0:
			if news && p.times < toldAgain {
				t.tell(p)
			}
		case p.votes > 1:
			t.tell(p)
		case alone < toldAtOnce:
			alone++
			t.tell(p)
		}
	}
}

// learn takes in where a provider is said to be; news tells that this was not
// known. What is new comes first: an address that was tried in vain is known.
func (p *provider) learn(addrs []ma.Multiaddr) (news bool) {
	fresh := slices.DeleteFunc(slices.Clone(addrs), func(a ma.Multiaddr) bool {
		return slices.ContainsFunc(p.addrs, a.Equal)
	})
	p.addrs = slices.Concat(fresh, p.addrs)
	p.addrs = p.addrs[:min(len(p.addrs), mesh.MaxAddrs)]
	return len(fresh) > 0
}

func (t *saying) tell(p *provider) {
	if p.times == 0 {
		if t.count >= maxProviders {
			return
		}
		t.count++
	}
	p.times++
	t.found(mesh.Peer{ID: mesh.PeerID(p.id), Addrs: meshAddrs(p.addrs)})
}

// rest tells of those that only one has candidate, when there is nobody left who
// could be asked.
func (t *saying) rest() {
	for _, p := range t.peers {
		if p.times == 0 {
			t.tell(p)
		}
	}
}

// fewUsable are as many of the usable addresses as are kept of one peer.
func fewUsable(addrs []ma.Multiaddr) []ma.Multiaddr {
	addrs = usable(addrs)
	return addrs[:min(len(addrs), mesh.MaxAddrs)]
}
