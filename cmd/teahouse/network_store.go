package main

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"teahouse/internal/home"
	"teahouse/internal/mesh"
	"teahouse/node"
)

// What the commands about networks share: the networks of a home by name, and
// links and addresses as people give them.

// storedNetwork is a network of a home.
type storedNetwork struct {
	*node.Descriptor
	stored home.StoredNetwork
}

// readStored are those that read back, in the order of their names; about
// others it says a line.
func readStored(all []home.StoredNetwork, complain *screen) []storedNetwork {
	var out []storedNetwork
	for _, s := range all {
		d, err := node.ParseLink(s.Text)
		if err != nil {
			complain.println(fmt.Sprintf("teahouse: %s: %v; put a copy back from a backup, or join that network again after you have moved the file away", s.File, err))
			continue
		}
		out = append(out, storedNetwork{d, s})
	}
	slices.SortFunc(out, func(a, b storedNetwork) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID(), b.ID())) })
	return out
}

// networkFile is how a network lies in a file.
func networkFile(d *node.Descriptor) string {
	return "# A network of Teahouse. Who has this link is a member of it: keep it to yourself.\n" + d.Link() + "\n"
}

// findStored is the network that a name or an id means; nil if none of them.
func findStored(all []storedNetwork, name string) (*storedNetwork, error) {
	if len(all) == 0 {
		return nil, nil
	}
	var named []*storedNetwork
	for i := range all {
		if all[i].ID() == name {
			return &all[i], nil
		}
		if sameName(all[i].Name, name) {
			named = append(named, &all[i])
		}
	}
	switch len(named) {
	case 0:
		return nil, nil
	case 1:
		return named[0], nil
	}
	ids := make([]string, 0, len(named))
	for _, s := range named {
		ids = append(ids, "--network "+s.ID())
	}
	return nil, usage("there are %d networks called %q here: say %s", len(named), plain(name), strings.Join(ids, " or "))
}

// chooseFlags name one of the networks of a home.
type chooseFlags struct {
	Network string `placeholder:"NAME" help:"Which network, by its name or id (default: the one in the settings, or the only one there is)."`
	homeFlags
}

// choose is the network that is meant.
func (f *chooseFlags) choose(a *app) (*storedNetwork, *home.Networks, error) {
	dirs, err := f.dirs()
	if err != nil {
		return nil, nil, err
	}
	settings, err := home.ReadConfig(dirs)
	if err != nil {
		return nil, nil, usage("%v", err)
	}
	networks := home.NetworksOf(dirs)
	files, err := networks.List()
	if err != nil {
		return nil, nil, err
	}
	all := readStored(files, a.screen)
	name := cmp.Or(f.Network, settings.Network)
	if name == "" && len(all) == 1 {
		return &all[0], networks, nil
	}
	switch s, err := findStored(all, name); {
	case err != nil:
		return nil, nil, err
	case s != nil:
		return s, networks, nil
	case len(all) == 0:
		return nil, nil, usage("there are no networks with a descriptor here: make one with `teahouse network create NAME`, or join one with `teahouse network join LINK`")
	case name == "":
		return nil, nil, usage("there are %d networks here: say which one with --network NAME; `teahouse network list` shows them", len(all))
	}
	return nil, nil, usage("there is no network %q with a descriptor here: `teahouse network list` shows those that there are", plain(name))
}

// readLink reads what `network join` was given.
func (a *app) readLink(given string) (string, error) {
	if len(given) >= len(node.LinkPrefix) && strings.EqualFold(given[:len(node.LinkPrefix)], node.LinkPrefix) {
		a.screen.println("teahouse: this link is a secret, and a shell keeps what is typed: `teahouse network join -` asks for it instead")
		return given, nil
	}
	var in io.Reader = os.Stdin
	if given != "-" {
		f, err := os.Open(given)
		if err != nil {
			return "", usage("%q is neither a link (%s...) nor a file that can be read", plain(given), node.LinkPrefix)
		}
		defer f.Close()
		in = f
	} else if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		a.screen.println("Paste the link (it does not show), and press Enter:")
		line, err := a.readHidden(fd)
		return string(line), err
	}
	text, err := io.ReadAll(io.LimitReader(in, node.MaxLinkText+1))
	if err != nil {
		return "", fmt.Errorf("read the link: %w", err)
	}
	if len(text) > node.MaxLinkText {
		return "", usage("what was given as a link is longer than any")
	}
	return string(text), nil
}

// namedNodes reads addresses as people give them: an IP address, with or
// without a port, is this machine's, by QUIC and TCP; so is a multiaddr without
// /p2p/. own tells this home's peer id.
func namedNodes(flag string, given []string, own func() (mesh.PeerID, error)) ([]node.NamedNode, error) {
	var out []node.NamedNode
	add := func(p mesh.PeerID, e node.Endpoint) {
		i := slices.IndexFunc(out, func(n node.NamedNode) bool { return n.Peer == p })
		if i < 0 {
			i = len(out)
			out = append(out, node.NamedNode{Peer: p})
		}
		if !slices.Contains(out[i].Addrs, e) {
			out[i].Addrs = append(out[i].Addrs, e)
		}
	}
	for _, text := range given {
		at, isIP := parseAddrPort(text)
		var p mesh.PeerID
		var ends []node.Endpoint
		if isIP {
			ends = []node.Endpoint{node.EndpointAt(at, true), node.EndpointAt(at, false)}
		} else {
			if strings.HasPrefix(text, "/") && !strings.Contains(text, "/p2p/") {
				if err := checkAddr(text, false); err != nil {
					return nil, usage("%s: %v", flag, err)
				}
			} else if err := checkPeer(text); err != nil {
				return nil, usage("%s: %v, or an IP address of this machine", flag, err)
			}
			id, e, err := node.ParseEndpoint(text)
			if err != nil {
				return nil, usage("%s: %v", flag, err)
			}
			p, ends = id, []node.Endpoint{e}
		}
		if p == "" {
			var err error
			if p, err = own(); err != nil {
				return nil, err
			}
		}
		for _, e := range ends {
			add(p, e)
		}
	}
	return out, nil
}

// parseAddrPort reads an IP address, with the port of bootstraps if it has none.
func parseAddrPort(text string) (netip.AddrPort, bool) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at, at.Addr().Zone() == ""
	}
	ip, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return netip.AddrPortFrom(ip.Unmap(), bootstrapPort), err == nil && ip.Zone() == ""
}

// maxOwnAddresses is how many addresses of this machine are named unasked: two
// endpoints each, and a node has eight.
const maxOwnAddresses = 4

// ownAddresses are the addresses of this machine that others may reach it by:
// public ones, or, where there are none, those of its LANs.
func (a *app) ownAddresses() ([]string, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	var public, private []string
	six := false
	for _, one := range all {
		ipNet, ok := one.(*net.IPNet)
		if !ok {
			continue
		}
		ip, _ := netip.AddrFromSlice(ipNet.IP)
		ip = ip.Unmap()
		if !ip.IsGlobalUnicast() || !ip.Is4() && six {
			continue // an interface may have a dozen IPv6 addresses, most of them for a day
		}
		six = six || !ip.Is4()
		if ip.IsPrivate() || netip.MustParsePrefix("100.64.0.0/10").Contains(ip) {
			private = append(private, ip.String())
		} else {
			public = append(public, ip.String())
		}
	}
	if len(public) > 0 {
		return public[:min(len(public), maxOwnAddresses)], nil
	}
	if len(private) == 0 {
		return nil, usage("this machine has no address that others could reach: connect it, or name a node with --bootstrap ADDR")
	}
	a.screen.println("teahouse: this machine has addresses of its LAN alone, so only those who are there can start from it; name a node that everybody reaches with --bootstrap ADDR")
	return private[:min(len(private), maxOwnAddresses)], nil
}

// readPolicyText reads a policy to be signed.
func readPolicyText(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", usage("--policy: %v", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, node.MaxPolicy+1))
	if err != nil {
		return "", usage("--policy: %v", err)
	}
	if len(text) > node.MaxPolicy || !utf8.Valid(text) {
		return "", usage("--policy %s is no text of at most %d bytes", path, node.MaxPolicy)
	}
	if _, err := parseNetworkPolicy(string(text)); err != nil {
		return "", usage("--policy %s, %v", path, err)
	}
	return string(text), nil
}

// expiresSoon is when members are told that a descriptor is about to end.
const expiresSoon = 30 * 24 * time.Hour
