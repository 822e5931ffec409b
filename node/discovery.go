package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	mh "github.com/multiformats/go-multihash"

	"teahouse/internal/mesh"
)

// Times of the DHT.
const (
	recordLife     = 2 * time.Hour
	recordAddrLife = time.Hour
	// provideAgain is how often a record is put anew while it is wanted: well
	// within its life, because nodes that hold it go away.
	provideAgain = 10 * time.Minute
	provideRetry = 30 * time.Second // the longest wait after a failure
	bootTimeout  = 10 * time.Second
	bootMin      = time.Second
	bootMax      = time.Minute
	bootDoubt    = 10 * time.Second
	// identifyPatience is how long libp2p may take to find out what a peer speaks
	// that others wait for.
	identifyPatience = time.Second
)

// newDHT makes the network's own Kademlia DHT: provider records alone, always
// a server (a network of laptops on one LAN has no others).
func newDHT(h host.Host, n Network) (*dht.IpfsDHT, error) {
	opts := []dht.Option{
		dht.ProtocolPrefix(dhtPrefix(n)),
		dht.Mode(dht.ModeServer),
		dht.DisableValues(),
		dht.AddressFilter(fewUsable),
		dht.WithCustomMessageSender(newAsker),
		dht.ProviderDatastore(newRecordStore()),
		dht.ProviderManagerOpts(records.ProvideValidity(recordLife), records.ProviderAddrTTL(recordAddrLife)),
	}
	if !n.LAN {
		opts = append(opts, dht.RoutingTablePeerDiversityFilter(newDiversity(h)))
	}
	d, err := dht.New(h, opts...)
	if err != nil {
		return nil, fmt.Errorf("start the DHT: %w", err)
	}
	return d, nil
}

// dhtPrefix begins the name of the network's DHT.
func dhtPrefix(n Network) protocol.ID { return protocol.ID("/teahouse/" + n.ID) }

// dhtProtocol is what every node of the network speaks and no other does.
func dhtProtocol(n Network) protocol.ID { return dhtPrefix(n) + "/kad/1.0.0" }

// keyCID is where a key lies in the DHT: CIDv1 raw, the key as digest.
func keyCID(key [32]byte) cid.Cid {
	digest, err := mh.Encode(key[:], mh.SHA2_256)
	if err != nil {
		panic(err) // 32 bytes are the length of SHA2-256
	}
	return cid.NewCidV1(cid.Raw, digest)
}

// Provide announces this node under key until ctx ends. It returns when the
// record has been put once, or could not be; in either case it goes on in the
// background.
func (n *Node) Provide(ctx context.Context, key [32]byte) error {
	first := make(chan error, 1)
	if !n.goTracked(func() { n.keepProviding(ctx, keyCID(key), first) }) {
		return mesh.ErrClosed
	}
	select {
	case err := <-first:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.ctx.Done():
		return mesh.ErrClosed
	}
}

func (n *Node) keepProviding(ctx context.Context, key cid.Cid, first chan<- error) {
	ctx, cancel := n.within(ctx)
	defer cancel()
	retry := time.Second
	for {
		rebooted := n.booted.wait()
		err := n.provideOnce(ctx, key)
		select {
		case first <- err:
		default:
		}
		wait := provideAgain
		if err != nil {
			wait = retry
			retry = min(2*retry, provideRetry)
		} else {
			retry = time.Second
		}
		t := time.NewTimer(jitter(wait))
		select {
		case <-t.C:
		case <-rebooted: // there is somebody new to tell, or something new to say
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// Find calls found for each peer that provides key, as it comes.
func (n *Node) Find(ctx context.Context, key [32]byte, found func(mesh.Peer)) error {
	if n.ctx.Err() != nil {
		return mesh.ErrClosed
	}
	ctx, cancel := n.within(ctx)
	defer cancel()
	if err := n.awaitNeighbour(ctx); err != nil {
		return n.ended(err)
	}
	if err := n.findProviders(ctx, keyCID(key), found); err != nil {
		return n.ended(err)
	}
	return n.ended(ctx.Err())
}

// ended is err, or that the node was closed, which then is why.
func (n *Node) ended(err error) error {
	if n.ctx.Err() != nil {
		return mesh.ErrClosed
	}
	return err
}

// within is ctx that also ends with the node.
func (n *Node) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(n.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// bootstrapTag keeps connections with peers to start from from being trimmed.
const bootstrapTag = "bootstrap"

// keepBootstrapping stays connected to one peer to start from until ctx ends,
// with back-off while it is out of reach. Connections that are doubtful are
// asked whether they live for a while.
func (n *Node) keepBootstrapping(ctx context.Context, info peer.AddrInfo, doubtful bool) {
	delay := bootMin
	begun := time.Now()
	for {
		if doubtful && time.Since(begun) < bootDoubt {
			for _, c := range n.host.Network().ConnsToPeer(info.ID) {
				n.pings.touch(c, time.Now())
			}
		}
		if n.reaches(info.ID, time.Now()) {
			delay = bootMin
			if n.dht.RoutingTable().Find(info.ID) == "" && n.introduce(ctx, info.ID) == nil {
				n.booted.fire()
			}
		} else {
			dial, cancel := context.WithTimeout(ctx, bootTimeout)
			n.closeDead(info.ID, onQUIC|onTCP, suspectAfter, time.Now())
			n.swarm.Backoff().Clear(info.ID)
			err := n.host.Connect(dial, info)
			cancel()
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				n.log.Debug("peer to start from not reached", "peer", mesh.PeerID(info.ID), "again in", delay, "err", err)
			default:
				n.log.Debug("connected to a peer to start from", "peer", mesh.PeerID(info.ID))
				n.host.ConnManager().Protect(info.ID, bootstrapTag)
				n.awaitDHT(ctx, info.ID)
				n.booted.fire()
				delay = bootMin
			}
		}
		t := time.NewTimer(jitter(delay))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		if !n.reaches(info.ID, time.Now()) {
			delay = min(2*delay, bootMax)
		}
	}
}

// awaitDHT waits until p is in the routing table, a moment after libp2p has
// identified it, so that what waits for a bootstrap node can use it. libp2p
// identifies a peer once for a connection, and where that fails, because the
// peer is busy, the peer is never in the table: then it is asked itself.
func (n *Node) awaitDHT(ctx context.Context, p peer.ID) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(identifyPatience)
	defer limit.Stop()
	for n.dht.RoutingTable().Find(p) == "" {
		select {
		case <-tick.C:
		case <-limit.C:
			if err := n.introduce(ctx, p); err != nil {
				n.log.Debug("peer to start from does not answer", "peer", mesh.PeerID(p), "err", err)
			}
			return
		case <-ctx.Done():
			return
		}
	}
}

// introduce asks a peer that is connected whether it is in the DHT, and puts it
// into the routing table if so.
func (n *Node) introduce(ctx context.Context, p peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	ctx = network.WithNoDial(ctx, "introduce")
	if _, err := n.dht.MessageSender().SendRequest(ctx, p, dhtpb.NewMessage(dhtpb.Message_FIND_NODE, []byte(p), 0)); err != nil {
		return err
	}
	if err := n.host.Peerstore().AddProtocols(p, n.dhtProtocol); err != nil {
		return err
	}
	_, err := n.dht.RoutingTable().TryAddPeer(p, true, false)
	return err
}

// jitter spreads d by a quarter to each side, so that nodes that start
// together do not stay together.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}

// bootstrapPeers reads the configured peers, addresses of one peer together.
func bootstrapPeers(addrs []string, self peer.ID) ([]peer.AddrInfo, error) {
	byID := make(map[peer.ID]int)
	var out []peer.AddrInfo
	for _, s := range addrs {
		info, err := parsePeer(s)
		if err != nil {
			return nil, fmt.Errorf("peer: %w", err)
		}
		if info.ID == self {
			continue // a node may be given its own network's list
		}
		i, known := byID[info.ID]
		if !known {
			i = len(out)
			byID[info.ID] = i
			out = append(out, peer.AddrInfo{ID: info.ID})
		}
		out[i].Addrs = append(out[i].Addrs, info.Addrs...)
	}
	if len(out) > 64 {
		return nil, errors.New("more than 64 peers to start from")
	}
	return out, nil
}
