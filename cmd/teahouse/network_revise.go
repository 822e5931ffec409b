package main

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"teahouse/internal/home"
	"teahouse/internal/mesh"
	"teahouse/node"
)

// Changes of a network: each is the next revision, signed by the root key on
// the founder's home. Nodes that run on it take it within seconds, and tell
// all others.

// rootFlags choose a network and unlock its root key.
type rootFlags struct {
	chooseFlags
	PassphraseFile string `placeholder:"FILE" help:"Take the root key's passphrase from the first line of FILE, such as /dev/fd/3 (default: the terminal is asked)."`
	jsonFlag
}

// revise lets change make the next revision of the network that is meant, signs
// and stores it.
func (f *rootFlags) revise(a *app, change func(d *node.Descriptor, own *ownIdentity) error) error {
	s, networks, err := f.choose(a)
	if err != nil {
		return err
	}
	next := s.Revise(time.Now())
	dirs, err := f.dirs()
	if err != nil {
		return err
	}
	if s.stored.Root == home.NoRoot {
		return rootSentence(os.ErrNotExist, s)
	}
	if err := change(next, &ownIdentity{flags: &f.homeFlags, dirs: dirs}); err != nil {
		return err
	}
	if err := next.CheckTime(time.Now()); err != nil {
		return wrap(err, exitUsage, "network", "%v: give it more time with `teahouse network revise --valid 8760h`", err)
	}
	seed, err := networks.RootSeedOf(s.stored.Name, unlock(a, f.PassphraseFile))
	if err != nil {
		return rootSentence(err, s)
	}
	key := ed25519.NewKeyFromSeed(seed[:])
	if !s.Root.Equal(key.Public()) {
		return fail(exitOther, "key", "the root key in %s is another network's: put a copy back from a backup", networks.RootFile(s.stored.Name))
	}
	if err := next.Sign(key); err != nil {
		return usage("%v", err)
	}
	if _, err := networks.Change(func(all []home.StoredNetwork) (string, string, error) {
		for _, o := range readStored(all, a.screen) {
			if o.stored.Name == s.stored.Name {
				// Somebody may have revised it since we looked.
				return s.stored.Name, networkFile(next), next.Replaces(o.Descriptor, time.Now())
			}
		}
		return "", "", fail(exitOther, "network", "the network was removed meanwhile: nothing was changed")
	}); err != nil {
		return refuseDescriptor(err)
	}
	if f.JSON {
		printJSON(summaryOf(next))
		return nil
	}
	fmt.Printf("Revision %d of %q is signed. Nodes of this home take it at once, and members learn it from each other; who has been away needs a newer link (teahouse network invite).\n", next.Revision, next.Name)
	return nil
}

type networkReviseCmd struct {
	Bootstrap []string      `placeholder:"ADDR" sep:"none" help:"Name a node to start from, as in network create; all addresses of a node that is named already are replaced. May be repeated."`
	Drop      []string      `placeholder:"PEER" sep:"none" help:"Do not name a node as a bootstrap any more: its peer id. May be repeated."`
	Valid     time.Duration `placeholder:"D" help:"Let the descriptor hold for D from now on, such as 8760h."`
	Policy    string        `placeholder:"FILE" help:"Rules for all members, as in policy.toml: they narrow what each allows; none for none."`
	rootFlags
}

func (c *networkReviseCmd) Run(a *app) error {
	if len(c.Bootstrap) == 0 && len(c.Drop) == 0 && c.Valid == 0 && c.Policy == "" {
		return usage("say what to change: --bootstrap ADDR, --drop PEER, --valid D or --policy FILE")
	}
	return c.revise(a, func(d *node.Descriptor, own *ownIdentity) (err error) {
		named, err := namedNodes("--bootstrap", c.Bootstrap, own.peer)
		if err != nil {
			return err
		}
		for _, n := range named {
			d.Bootstraps = without(d.Bootstraps, n.Peer)
			d.Bootstraps = append(d.Bootstraps, n)
			for i, r := range d.Relays {
				if r.Peer == n.Peer { // it is one machine
					d.Relays[i].NamedNode = n
				}
			}
		}
		for _, text := range c.Drop {
			p, err := peerArg("--drop", text)
			if err != nil {
				return err
			}
			rest := without(d.Bootstraps, p)
			if len(rest) == len(d.Bootstraps) {
				return usage("--drop: %s is no bootstrap of the network", plain(text))
			}
			d.Bootstraps = rest
		}
		if c.Valid != 0 {
			before := d.Expires
			if d.Issued, d.Expires, err = validity(c.Valid, time.Now()); err != nil {
				return err
			}
			for i, r := range d.Relays {
				if r.Expires.Equal(before) { // for as long as the descriptor
					d.Relays[i].Expires = d.Expires
				}
			}
		}
		switch c.Policy {
		case "":
		case "none":
			d.Policy = ""
		default:
			d.Policy, err = readPolicyText(c.Policy)
		}
		return err
	})
}

type networkRevokeCmd struct {
	Peer []string `arg:"" help:"Peer ids of the nodes."`
	Undo bool     `help:"Let them be spoken to again."`
	rootFlags
}

func (c *networkRevokeCmd) Run(a *app) error {
	return c.revise(a, func(d *node.Descriptor, _ *ownIdentity) error {
		for _, text := range c.Peer {
			p, err := peerArg("revoke", text)
			if err != nil {
				return err
			}
			known := slices.Contains(d.Revoked, p)
			switch {
			case c.Undo && !known:
				return usage("%s is not revoked", plain(text))
			case c.Undo:
				d.Revoked = slices.DeleteFunc(d.Revoked, func(o mesh.PeerID) bool { return o == p })
			case known:
				return usage("%s is revoked already", plain(text))
			default:
				d.Revoked = append(d.Revoked, p)
				d.Bootstraps = without(d.Bootstraps, p)
				d.Relays = slices.DeleteFunc(d.Relays, func(r node.RelayTicket) bool { return r.Peer == p })
			}
		}
		return nil
	})
}

// networkRelayCmd is about who may relay.
type networkRelayCmd struct {
	Add    networkRelayAddCmd    `cmd:"" help:"Sign a ticket for a relay."`
	Remove networkRelayRemoveCmd `cmd:"" help:"Take a relay's ticket back."`
}

type networkRelayAddCmd struct {
	Addr  []string      `arg:"" help:"Where the relay is: multiaddrs with /p2p/, or addresses of this machine as in network create."`
	Valid time.Duration `placeholder:"D" help:"For how long the ticket holds (default: as long as the descriptor)."`
	rootFlags
}

func (c *networkRelayAddCmd) Run(a *app) error {
	return c.revise(a, func(d *node.Descriptor, own *ownIdentity) error {
		named, err := namedNodes("relay add", c.Addr, own.peer)
		if err != nil {
			return err
		}
		expires := d.Expires
		if c.Valid != 0 {
			if _, expires, err = validity(c.Valid, time.Now()); err != nil {
				return err
			}
		}
		for _, n := range named {
			d.Relays = slices.DeleteFunc(d.Relays, func(r node.RelayTicket) bool { return r.Peer == n.Peer })
			d.Relays = append(d.Relays, node.RelayTicket{NamedNode: n, Expires: expires})
		}
		return nil
	})
}

type networkRelayRemoveCmd struct {
	Peer []string `arg:"" help:"Peer ids of the relays."`
	rootFlags
}

func (c *networkRelayRemoveCmd) Run(a *app) error {
	return c.revise(a, func(d *node.Descriptor, _ *ownIdentity) error {
		for _, text := range c.Peer {
			p, err := peerArg("relay remove", text)
			if err != nil {
				return err
			}
			before := len(d.Relays)
			if d.Relays = slices.DeleteFunc(d.Relays, func(r node.RelayTicket) bool { return r.Peer == p }); len(d.Relays) == before {
				return usage("relay remove: %s has no ticket", plain(text))
			}
		}
		return nil
	})
}

type networkPassphraseCmd struct {
	None    bool   `help:"Keep the root key under no passphrase."`
	NewFile string `placeholder:"FILE" help:"Take the new passphrase from the first line of FILE (default: the terminal is asked)."`
	rootFlags
}

func (c *networkPassphraseCmd) Run(a *app) error {
	s, networks, err := c.choose(a)
	if err != nil {
		return err
	}
	seed, err := networks.RootSeedOf(s.stored.Name, unlock(a, c.PassphraseFile))
	if err != nil {
		return rootSentence(err, s)
	}
	phrase := ""
	if !c.None {
		if phrase, err = (&passphraseFlags{Passphrase: true, PassphraseFile: c.NewFile}).choose(a); err != nil {
			return err
		}
	}
	if err := networks.LockRoot(s.stored.Name, seed, phrase); err != nil {
		return err
	}
	if c.None {
		a.screen.println(fmt.Sprintf("The root key of %q lies under no passphrase now.", s.Name))
	} else {
		a.screen.println(fmt.Sprintf("The root key of %q lies under the new passphrase now. Old copies of the file open with the old one.", s.Name))
	}
	return nil
}

func without(all []node.NamedNode, p mesh.PeerID) []node.NamedNode {
	return slices.DeleteFunc(slices.Clone(all), func(n node.NamedNode) bool { return n.Peer == p })
}

// peerArg reads a peer id, or a multiaddr that ends in one.
func peerArg(what, text string) (mesh.PeerID, error) {
	id := text
	if i := strings.LastIndex(text, "/p2p/"); i >= 0 {
		id = text[i+len("/p2p/"):]
	}
	p, err := parsePeerText(id)
	if err != nil {
		return "", usage("%s: %q is no peer id: `teahouse network show` has those of the network", what, plain(text))
	}
	return p, nil
}
