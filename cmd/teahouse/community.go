package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"teahouse/internal/home"
	"teahouse/internal/mesh"
	"teahouse/node"
)

// A node on a network that has a descriptor.

// chooseStored takes the network of the home that name means, if there is one:
// it goes before an ad-hoc network of the name.
func (h *house) chooseStored(name string) (found bool, err error) {
	files, err := home.NetworksOf(h.dirs).List()
	if err != nil {
		return false, err
	}
	s, err := findStored(readStored(files, h.screen), name)
	if s == nil || err != nil {
		return false, err
	}
	now := time.Now()
	if err := s.CheckTime(now); err != nil {
		return true, wrap(err, exitRefused, "network", "%v: get a newer link (`teahouse network join`), and see that the clock of this machine is right", err)
	}
	if left := s.Expires.Sub(now); left < expiresSoon {
		h.screen.println(fmt.Sprintf("The descriptor of the network %q ends on %s: its founder should sign a new one (teahouse network revise --valid 8760h).", s.Name, day(s.Expires)))
	}
	h.community, h.networkName, h.network = s, s.Name, s.Network()
	return true, nil
}

// listenAsNamed are the addresses that keep true what a descriptor says of its
// bootstrap self: the ports it names, on all addresses of this machine, because
// those that it names may be a router's. A loopback address is taken at its
// word. Empty: it does not name self.
func listenAsNamed(d *node.Descriptor, self mesh.PeerID) []string {
	var out []string
	seen := map[string]bool{}
	add := func(family, ip string, port uint16, quic bool) {
		addr := fmt.Sprintf("/%s/%s/tcp/%d", family, ip, port)
		if quic {
			addr = fmt.Sprintf("/%s/%s/udp/%d/quic-v1", family, ip, port)
		}
		if !seen[addr] {
			seen[addr] = true
			out = append(out, addr)
		}
	}
	for _, b := range d.Bootstraps {
		if b.Peer != self {
			continue
		}
		for _, e := range b.Addrs {
			at, quic, ok := e.AddrPort()
			switch {
			case !ok:
			case at.Addr().IsLoopback() && at.Addr().Is4():
				add("ip4", at.Addr().String(), at.Port(), quic)
			case at.Addr().IsLoopback():
				add("ip6", at.Addr().String(), at.Port(), quic)
			default:
				add("ip4", "0.0.0.0", at.Port(), quic)
				if node.HasIPv6() {
					add("ip6", "::", at.Port(), quic)
				}
			}
		}
	}
	return out
}

// networkRules are the network's layer of the policy, if it has one: it narrows
// what the home and the command line allow. A newer descriptor's rules hold
// from the next start on.
func (h *house) networkRules() ([]node.Rules, error) {
	if h.community == nil || h.community.Policy == "" {
		return nil, nil
	}
	rules, err := parseNetworkPolicy(h.community.Policy)
	if err != nil {
		return nil, wrap(err, exitOther, "policy", "the policy of the network %q, %v: nothing was sent; ask its founder to sign another, or get a newer version of teahouse", h.community.Name, err)
	}
	return []node.Rules{rules}, nil
}

// parseNetworkPolicy reads a policy that a descriptor has, or is to have.
func parseNetworkPolicy(text string) (node.Rules, error) {
	rules, db, err := parsePolicy([]byte(text))
	if err == nil && db != "" {
		err = errors.New("which names a database of countries: that is for each home to choose")
	}
	rules.Source = "the network's policy"
	return rules, err
}

// lookAgain is how often a node looks whether a command has changed its
// network's descriptor.
const lookAgain = time.Second

// keepDescriptor stores a newer descriptor that came from another node, unless
// a command has stored a newer one still.
func (h *house) keepDescriptor(d *node.Descriptor) error {
	_, err := home.NetworksOf(h.dirs).Change(func(all []home.StoredNetwork) (string, string, error) {
		for _, s := range readStored(all, h.screen) {
			if s.stored.Name != h.community.stored.Name {
				continue
			}
			if err := d.Replaces(s.Descriptor, time.Now()); err != nil {
				if errors.Is(err, node.ErrRolledBack) {
					return "", "", nil // and followDescriptor offers it to the node
				}
				return "", "", err
			}
			return s.stored.Name, networkFile(d), nil
		}
		return "", "", errors.New("the network's file is gone, or damaged")
	})
	h.tellDescriptor(d)
	return err
}

func (h *house) tellDescriptor(d *node.Descriptor) {
	h.hub.publish(descriptorEvent{headOf("descriptor", time.Now(), ""), d.ID(), d.Revision, d.Expires.UTC().Format(time.RFC3339)})
}

// followDescriptor gives the node what commands of this home sign or join while
// it runs. It returns a function that ends that and waits.
func (h *house) followDescriptor() (stop func()) {
	if h.community == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		networks, name := home.NetworksOf(h.dirs), h.community.stored.Name
		var seen fs.FileInfo // nil: look into it, it may have changed since we started
		tick := time.NewTicker(lookAgain)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-quit:
				return
			}
			info, err := networks.Stat(name)
			if err != nil || seen != nil && os.SameFile(seen, info) && seen.ModTime().Equal(info.ModTime()) {
				continue
			}
			seen = info
			stored, err := networks.Read(name)
			if err != nil {
				h.log.Warn("the network's descriptor cannot be read", "err", err)
				continue
			}
			d, err := node.ParseLink(stored.Text)
			if err != nil {
				h.log.Warn("the network's descriptor is damaged; the node goes on with the one it has", "file", stored.File, "err", err)
				continue
			}
			switch err := h.node.Offer(d); {
			case err == nil:
				h.tellDescriptor(d)
			case !errors.Is(err, node.ErrRolledBack): // what it stored itself
				h.log.Warn("the network's descriptor is not taken", "err", err)
			}
		}
	}()
	return func() { close(quit); <-done }
}
