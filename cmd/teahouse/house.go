package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"teahouse/internal/home"
	"teahouse/internal/mesh"
	"teahouse/node"
	"teahouse/room"
)

// house is one node at work on one home, and the room it sits in.
//
//	goroutine               ends by
//	views (stdout, screen)  hub.close, at the very end
//	control socket          control.close
//	room: events, stats     seat.leave
//	voice, node, room       their own Close
type house struct {
	// Constant after openHouse.
	home        *home.Home
	dirs        home.Dirs
	settings    home.Config
	network     node.Network
	networkName string
	policy      *node.Policy // set before startNode
	// community is the network's descriptor as it was when the node started;
	// nil on one that has only a name.
	community *storedNetwork
	node      *node.Node
	unfollow  func() // ends followDescriptor; nil before the node has started
	starters  int    // addresses to start from
	hub       *hub
	screen    *screen
	log       *slog.Logger
	started   time.Time
	// stop ends the program in an orderly way; the first reason counts.
	stop context.CancelCauseFunc
	// leaveEnds: the program ends when a verb leaves the room.
	leaveEnds bool

	mu   sync.Mutex
	seat *seat // nil while in no room
}

// The reasons for which a program ends well.
var (
	errSignal = errors.New("signal")
	errAsked  = errors.New("asked to leave")
)

// openHouse locks the home and finds the network; startNode must follow. What
// could spoil something of another node on the same home comes after it.
func openHouse(f *homeFlags, networkName string, hub *hub, screen *screen, log *slog.Logger, stop context.CancelCauseFunc) (h *house, err error) {
	dirs, err := f.dirs()
	if err != nil {
		return nil, err
	}
	h = &house{dirs: dirs, hub: hub, screen: screen, log: log, started: time.Now(), stop: stop}
	if h.settings, err = home.ReadConfig(dirs); err != nil {
		return nil, usage("%v", err)
	}
	if err := checkNick(h.settings.Nick); err != nil {
		return nil, usage("%s/config.toml: %v", dirs.Config, err)
	}
	if h.home, err = home.Open(dirs, log); err != nil {
		return nil, err
	}
	if err := h.chooseNetwork(networkName); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// startNode goes onto the network and says so.
func (h *house) startNode(ctx context.Context, n *networkFlags, bootstrap bool) error {
	peers, err := readPeers(n.Peer)
	if err != nil {
		return err
	}
	key := home.FreshKey()
	if n.KeepIdentity || bootstrap {
		if key, err = h.home.HostKey(); err != nil {
			return err
		}
	}
	var named []string
	var community *node.Descriptor
	if h.community != nil {
		community = h.community.Descriptor
		if bootstrap && len(n.Listen) == 0 {
			named = listenAsNamed(h.community.Descriptor, mesh.PeerIDOf(key.Public().(ed25519.PublicKey)))
		}
	}
	self := "/p2p/" + peerText(mesh.PeerIDOf(key.Public().(ed25519.PublicKey)))
	all := slices.Clone(peers)
	if community != nil {
		all = append(all, community.Peers()...)
	}
	all = slices.DeleteFunc(all, func(p string) bool { return strings.HasSuffix(p, self) })
	h.starters = len(all)
	if all, err = h.allowed(all); err != nil {
		return err
	}
	// Those of the descriptor are the node's to take up and to let go.
	peers = slices.DeleteFunc(peers, func(p string) bool { return !slices.Contains(all, p) })
	listen, err := h.listenAddrs(append(named, n.Listen...), bootstrap)
	if err != nil {
		return err
	}
	memory, err := h.home.Peers(h.network.ID)
	if err != nil {
		return err
	}
	h.node, err = node.New(ctx, node.Config{
		HostKey:   key,
		Network:   h.network,
		Listen:    listen,
		Peers:     peers,
		MDNS:      n.MDNS == "on" || n.MDNS != "off" && h.network.LAN,
		Memory:    memory,
		Bootstrap: bootstrap,
		Transport: node.Transport(n.Transport),
		Gater:     h.policy.Gater(),
		OnRefused: h.refused,
		Log:       h.log,

		Descriptor:   community,
		OnDescriptor: h.keepDescriptor,
	})
	if err != nil {
		return err
	}
	h.unfollow = h.followDescriptor()
	peer, addrs := h.identity()
	h.hub.publish(listeningEvent{headOf("listening", time.Now(), ""), peer, addrs})
	return nil
}

// chooseNetwork finds the network's secret: a stored one's in its descriptor,
// else from the cache if it can.
func (h *house) chooseNetwork(name string) error {
	name = cmp.Or(name, h.settings.Network, node.LANName)
	normal, err := node.NormaliseNetworkName(name)
	if err != nil {
		return usage("network %q: %v: give another name", name, err)
	}
	if found, err := h.chooseStored(name); found || err != nil {
		return err
	}
	h.networkName = normal
	if normal == node.LANName {
		h.network = node.LAN()
		return nil
	}
	seed, err := h.derived("network\x00"+normal, func() [32]byte { return node.AdHocSeed(normal) })
	if err != nil {
		return err
	}
	h.network = node.NetworkFromSeed(seed)
	return nil
}

// derived is home.Derived, and gives the 64 MiB that Argon2id took back to the
// system at once: the collector would sit on them for minutes.
func (h *house) derived(subject string, derive func() [32]byte) ([32]byte, error) {
	return h.home.Derived(subject, func() [32]byte {
		defer debug.FreeOSMemory()
		return derive()
	})
}

// roomSecret finds an open room's secret, from the cache if it can.
func (h *house) roomSecret(topic string) (room.Secret, string, error) {
	name, err := room.NormaliseTopic(topic)
	if err != nil {
		return room.Secret{}, "", usage("the room %q: %v", topic, err)
	}
	var derivation error
	secret, err := h.derived("topic\x00"+h.network.ID+"\x00"+name, func() [32]byte {
		s, err := room.OpenSecret(name, h.network.Secret)
		derivation = err
		return s
	})
	return room.Secret(secret), name, errors.Join(err, derivation)
}

// enter joins a room; the seat is taken until leave.
func (h *house) enter(ctx context.Context, topic string, f *voiceFlags, s *sound) (*seat, error) {
	st, err := takeSeat(ctx, h, topic, f, s)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.seat = st
	h.mu.Unlock()
	return st, nil
}

// current is the seat, or nil.
func (h *house) current() *seat {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seat
}

// leave gives the seat up and waits for it.
func (h *house) leave() {
	h.mu.Lock()
	st := h.seat
	h.seat = nil
	h.mu.Unlock()
	if st != nil {
		st.leave()
	}
}

// close leaves the room, and ends the node and the home.
func (h *house) close() {
	h.leave()
	if h.unfollow != nil {
		h.unfollow()
	}
	if h.node != nil {
		if err := h.node.Close(); err != nil {
			h.log.Warn("node not closed cleanly", "err", err)
		}
	}
	if h.home != nil {
		_ = h.home.Close() // the kernel gives the lock back in any case
	}
}
