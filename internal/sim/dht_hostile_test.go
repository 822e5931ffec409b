package sim

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	kad "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
	"go.uber.org/fx"
	"google.golang.org/protobuf/proto"
)

// malice is how a hostile node of the DHT answers when it is asked about a key
// of a room. Asked about peers, which is how tables are filled and checked, all
// of them answer, and name each other.
type malice int

const (
	// silent never answers, slowly after eight seconds and then with nothing.
	silent malice = iota
	slowly
	// empty knows no one.
	empty
	// madeUp names 600 providers and 40 closer peers that there are not, the
	// closer ones as close as 64 tries make them, at addresses where nobody is.
	madeUp
	// ring names the other hostile nodes, as providers and as closer peers.
	ring
	malices
)

// slowAnswer is shorter than kad-dht's patience, 10 s.
const slowAnswer = 8 * time.Second

// ringOf are hostile nodes that know each other and everybody else.
type ringOf struct {
	world *dhtWorld
	nodes []*hostileNode

	mu    sync.Mutex
	asked [malices]int // about keys of rooms
}

type hostileNode struct {
	ring *ringOf
	how  malice
	host host.Host
	self *kad.Message_Peer
}

// add starts one more.
func (r *ringOf) add(how malice, key crypto.PrivKey) error {
	h := &hostileNode{ring: r, how: how}
	ip := r.world.nextIP()
	var err error
	h.host, err = libp2p.New(
		libp2p.Identity(key), libp2p.NoTransports, libp2p.Transport(libp2pquic.NewTransport),
		libp2p.ListenAddrStrings(fmt.Sprintf("/ip4/%s/udp/7654/quic-v1", ip)),
		libp2p.QUICReuse(func(life fx.Lifecycle, reset quic.StatelessResetKey, token quic.TokenGeneratorKey) (*quicreuse.ConnManager, error) {
			cm, err := quicreuse.NewConnManager(reset, token,
				quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return fromIP(ip), nil }),
				quicreuse.OverrideListenUDP(func(_ string, laddr *net.UDPAddr) (net.PacketConn, error) {
					return r.world.endpoint(laddr), nil
				}))
			if err == nil {
				life.Append(fx.StopHook(cm.Close))
			}
			return cm, err
		}),
		libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.ConnectionManager(connmgr.NullConnMgr{}),
	)
	if err != nil {
		return err
	}
	h.self = kadPeer(h.host.ID(), h.host.Addrs())
	h.host.SetStreamHandler(protocol.ID("/teahouse/"+r.world.network.ID+"/kad/1.0.0"), h.serve)
	r.nodes = append(r.nodes, h)
	return nil
}

// fromIP makes a host dial from one address.
type fromIP net.IP

func (f fromIP) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) { return net.IP(f), nil }

// meet has every hostile node connect to somebody.
func (r *ringOf) meet(p peer.AddrInfo) {
	for _, h := range r.nodes {
		r.world.wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = h.host.Connect(ctx, p) // it may be gone
		})
	}
}

func (r *ringOf) close() {
	for _, h := range r.nodes {
		_ = h.host.Close()
	}
}

// serve answers requests on one stream.
func (h *hostileNode) serve(st network.Stream) {
	defer func() { _ = st.Reset() }()
	for {
		var m kad.Message
		if err := readKad(st, &m); err != nil {
			return
		}
		answer := kad.NewMessage(m.GetType(), m.GetKey(), 0)
		switch {
		case m.GetType() == kad.Message_ADD_PROVIDER:
			continue
		case !aboutRoom(m.GetKey()):
			answer.CloserPeers = h.ring.closest(m.GetKey(), 20)
		default:
			h.ring.mu.Lock()
			h.ring.asked[h.how]++
			h.ring.mu.Unlock()
			switch h.how {
			case silent:
				_, _ = io.Copy(io.Discard, st)
				return
			case slowly:
				time.Sleep(slowAnswer)
			case empty:
			case madeUp:
				answer.ProviderPeers = h.ring.nobody(m.GetKey(), 600, 1)
				answer.CloserPeers = h.ring.nobody(m.GetKey(), 40, 64)
			case ring:
				answer.ProviderPeers = h.ring.closest(m.GetKey(), len(h.ring.nodes))
				answer.CloserPeers = h.ring.closest(m.GetKey(), 40)
			}
		}
		if m.GetType() == kad.Message_FIND_NODE {
			answer.ProviderPeers = nil
		}
		b, err := proto.Marshal(answer)
		if err != nil {
			return
		}
		if _, err := st.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...)); err != nil {
			return
		}
	}
}

// aboutRoom tells the key of a room (a SHA2-256 multihash) from a peer id.
func aboutRoom(key []byte) bool { return len(key) == 34 && key[0] == 0x12 }

// closest are n hostile nodes, the closest to a key first.
func (r *ringOf) closest(key []byte, n int) (out []*kad.Message_Peer) {
	target := sha256.Sum256(key)
	for _, h := range r.nodes {
		out = append(out, h.self)
	}
	slices.SortFunc(out, func(a, b *kad.Message_Peer) int { return compareTo(target, a.Id, b.Id) })
	return out[:min(n, len(out))]
}

// nobody makes n peers up, each the closest to a key of so many tries.
func (r *ringOf) nobody(key []byte, n, tries int) (out []*kad.Message_Peer) {
	target := sha256.Sum256(key)
	for range n {
		var best []byte
		for range tries {
			id := make([]byte, 38)
			_, _ = rand.Read(id)
			copy(id, []byte{0, 0x24, 8, 1, 0x12, 0x20}) // an Ed25519 key
			if best == nil || compareTo(target, id, best) < 0 {
				best = id
			}
		}
		port := binary.BigEndian.Uint16(best[6:])
		a, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/44.255.%d.%d/udp/%d/quic-v1", best[8], best[9], max(port, 1)))
		if err != nil {
			panic(err) // there is no such address
		}
		out = append(out, &kad.Message_Peer{Id: best, Addrs: [][]byte{a.Bytes()}, Connection: kad.Message_CONNECTED})
	}
	return out
}

// compareTo orders peer ids by their distance to a place of the DHT.
func compareTo(target [32]byte, a, b []byte) int {
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	for i := range target {
		x[i] ^= target[i]
		y[i] ^= target[i]
	}
	return bytes.Compare(x[:], y[:])
}

func kadPeer(id peer.ID, addrs []ma.Multiaddr) *kad.Message_Peer {
	p := &kad.Message_Peer{Id: []byte(id), Connection: kad.Message_CONNECTED}
	for _, a := range addrs {
		p.Addrs = append(p.Addrs, a.Bytes())
	}
	return p
}

func readKad(r io.Reader, m *kad.Message) error {
	n, err := binary.ReadUvarint(byteReader{r})
	if err != nil {
		return err
	}
	if n > 1<<16 {
		return io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return proto.Unmarshal(b, m)
}

type byteReader struct{ io.Reader }

func (r byteReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r.Reader, b[:])
	return b[0], err
}
