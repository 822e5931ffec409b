package main

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"teahouse/internal/home"
	"teahouse/internal/mesh"
	"teahouse/node"
)

// networkCmd is about networks with a descriptor: made, joined, shown, passed
// on here; changed in network_revise.go.
type networkCmd struct {
	Create     networkCreateCmd     `cmd:"" help:"Make a network of your own. Ends with what you, a helper and a guest type next."`
	Join       networkJoinCmd       `cmd:"" help:"Become a member of a network, by its link."`
	Show       networkShowCmd       `cmd:"" help:"Show what a network's founder has signed."`
	Invite     networkInviteCmd     `cmd:"" help:"Print a network's link, and a QR code in a terminal. Who has it is a member."`
	List       networkListCmd       `cmd:"" help:"List the networks of this home."`
	Revise     networkReviseCmd     `cmd:"" help:"Sign a new revision: other bootstraps, a longer life, another policy."`
	Revoke     networkRevokeCmd     `cmd:"" help:"Sign that nobody exchanges a packet with a node any more."`
	Relay      networkRelayCmd      `cmd:"" help:"Sign who may relay for the network."`
	Passphrase networkPassphraseCmd `cmd:"" help:"Put the root key under a passphrase, or under another."`
}

// aYear is how long a descriptor holds unless something else is asked for.
const aYear = 365 * 24 * time.Hour

type networkCreateCmd struct {
	Name      string        `arg:"" help:"Name of the network, as its members will type it."`
	Bootstrap []string      `placeholder:"ADDR" sep:"none" help:"Where members find a node to start from: an IP address of this machine, with :PORT if it is not 7654, or a multiaddr; another machine's with /p2p/. May be repeated (default: the addresses of this machine)."`
	Valid     time.Duration `placeholder:"D" default:"8760h" help:"For how long the descriptor holds, such as 720h."`
	Policy    string        `placeholder:"FILE" help:"Rules for all members, as in policy.toml: they narrow what each allows."`
	Relay     bool          `default:"true" negatable:"" help:"Let this machine's bootstrap relay for members whom no direct way leads to each other; it hears nothing of it."`
	homeFlags
	passphraseFlags
	jsonFlag
}

func (c *networkCreateCmd) Run(a *app) error {
	dirs, err := c.dirs()
	if err != nil {
		return err
	}
	if err := node.CheckDescriptorName(c.Name); err != nil {
		return usage("network create: %v; give another one", err)
	}
	own := &ownIdentity{flags: &c.homeFlags, dirs: dirs}
	given := c.Bootstrap
	if len(given) == 0 {
		if given, err = a.ownAddresses(); err != nil {
			return err
		}
	}
	bootstraps, err := namedNodes("--bootstrap", given, own.peer)
	if err != nil {
		return err
	}
	policy, err := readPolicyText(c.Policy)
	if err != nil {
		return err
	}
	now := time.Now()
	d := &node.Descriptor{Revision: 1, Name: c.Name, Bootstraps: bootstraps, Policy: policy}
	if d.Issued, d.Expires, err = validity(c.Valid, now); err != nil {
		return err
	}
	for _, b := range bootstraps {
		if c.Relay && b.Peer == own.id {
			d.Relays = append(d.Relays, node.RelayTicket{NamedNode: b, Expires: d.Expires})
		}
	}
	rand.Read(d.Secret[:]) // never fails, since Go 1.24
	root := home.FreshKey()
	if err := d.Sign(root); err != nil {
		return usage("network create: %v", err)
	}
	passphrase, err := c.choose(a)
	if err != nil {
		return err
	}
	networks := home.NetworksOf(dirs)
	var name string
	name, err = networks.Create(networkFile(d), home.RootSeed(root.Seed()), passphrase, func(all []home.StoredNetwork) error {
		for _, s := range readStored(all, a.screen) {
			if sameName(s.Name, c.Name) {
				return fail(exitOther, "network", "this home has a network called %q already (%s): choose another name", plain(s.Name), s.ID())
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	next := a.nextCommands(d, &c.homeFlags, own)
	if c.JSON {
		printJSON(struct {
			Network  string       `json:"network"`
			Name     string       `json:"name"`
			Revision uint64       `json:"revision"`
			Expires  string       `json:"expires"`
			Peers    []string     `json:"bootstraps"`
			Root     string       `json:"root_key_file"`
			Link     string       `json:"link"`
			Commands nextCommands `json:"commands"`
		}{d.ID(), d.Name, d.Revision, d.Expires.UTC().Format(time.RFC3339), d.Peers(), networks.RootFile(name), d.Link(), next})
		return nil
	}
	fmt.Printf("The network %q is made: %s, valid until %s.\n", d.Name, d.ID(), day(d.Expires))
	fmt.Printf("Its root key is in %s: keep a copy in a safe place, for nobody can change the network without it.\n", networks.RootFile(name))
	if passphrase == "" {
		fmt.Println("It lies there without a passphrase; `teahouse network passphrase` sets one.")
	}
	fmt.Printf("\nYou, on this machine, type next:\n\n    %s\n", next.Founder)
	fmt.Printf("\nYour first helper, on a machine that the others can reach:\n\n    %s\n", next.Helper)
	fmt.Printf("\n  (It prints its addresses; sign one with `%s`.)\n", next.sign)
	fmt.Printf("\nYour first guest:\n\n    %s\n\n", next.Guest)
	fmt.Println("The link makes whoever has it a member: send it by a way that you trust. A shell keeps what is typed; `teahouse network join -` asks for the link instead.")
	return nil
}

// nextCommands are what `network create` ends with.
type nextCommands struct {
	Founder string `json:"founder"`
	Helper  string `json:"helper"`
	Guest   string `json:"guest"`
	sign    string
}

func (a *app) nextCommands(d *node.Descriptor, f *homeFlags, own *ownIdentity) nextCommands {
	flags := " --network " + shellQuote(d.Name)
	here := flags
	if f.Home != "" {
		here += " --home " + shellQuote(f.Home)
	}
	program := "teahouse"
	if strings.Contains(os.Args[0], "/") {
		program = shellQuote(os.Args[0]) // as it was typed just now
	}
	out := nextCommands{
		Founder: program + " bootstrap" + here,
		Helper:  "teahouse network join " + d.Link() + " && teahouse bootstrap" + flags,
		Guest:   "teahouse network join " + d.Link() + " && teahouse join tea" + flags,
		sign:    program + " network revise" + here + " --bootstrap ADDR",
	}
	if own.id == "" { // only other machines are named
		out.Founder = program + " join tea" + here
	}
	return out
}

type networkJoinCmd struct {
	Link string `arg:"" help:"The link (teahouse:net/...), a file with it, or - to be asked for it or have it read from standard input."`
	homeFlags
	jsonFlag
}

func (c *networkJoinCmd) Run(a *app) error {
	dirs, err := c.dirs()
	if err != nil {
		return err
	}
	text, err := a.readLink(c.Link)
	if err != nil {
		return err
	}
	d, err := node.ParseLink(text)
	if err != nil {
		return refuseDescriptor(err)
	}
	if err := d.CheckTime(time.Now()); err != nil {
		return refuseDescriptor(err)
	}
	known := false
	var twin *storedNetwork
	_, err = home.NetworksOf(dirs).Change(func(all []home.StoredNetwork) (string, string, error) {
		for _, s := range readStored(all, a.screen) {
			switch {
			case s.ID() != d.ID():
				if sameName(s.Name, d.Name) {
					twin = &s
				}
			case string(s.Document()) == string(d.Document()):
				known = true
				return s.stored.Name, "", nil
			default:
				return s.stored.Name, networkFile(d), d.Replaces(s.Descriptor, time.Now())
			}
		}
		return "", networkFile(d), nil
	})
	switch {
	case errors.Is(err, home.ErrTooMany):
		return fail(exitOther, "network", "%v: use another --home", err)
	case err != nil:
		return refuseDescriptor(err)
	}
	if c.JSON {
		printJSON(summaryOf(d))
	} else if known {
		fmt.Printf("You are on the network %q already (%s, revision %d).\n", d.Name, d.ID(), d.Revision)
	} else {
		fmt.Printf("You are on the network %q now: %s, revision %d, valid until %s.\n", d.Name, d.ID(), d.Revision, day(d.Expires))
		fmt.Printf("Join a room on it: teahouse join ROOM --network %s\n", shellQuote(d.Name))
	}
	if twin != nil {
		a.screen.println(fmt.Sprintf("teahouse: you have two networks called %q: say which one with --network %s or --network %s", d.Name, d.ID(), twin.ID()))
	}
	return nil
}

// refuseDescriptor is a sentence for why a descriptor was not taken.
func refuseDescriptor(err error) error {
	switch {
	case errors.Is(err, node.ErrForged):
		return wrap(err, exitRefused, "network", "%v: it was changed on its way, so ask for it again, by another way", err)
	case errors.Is(err, node.ErrMalformed):
		return wrap(err, exitUsage, "network", "%v: copy it again, whole", err)
	case errors.Is(err, node.ErrExpired):
		return wrap(err, exitRefused, "network", "%v: ask for a newer link, and see that the clock of this machine is right", err)
	case errors.Is(err, node.ErrRolledBack):
		return wrap(err, exitRefused, "network", "%v: this home keeps the one that it has", err)
	case errors.Is(err, node.ErrOtherNetwork):
		return wrap(err, exitRefused, "network", "%v: it is not taken", err)
	}
	return err
}

// validity is from now on for as long as valid says.
func validity(valid time.Duration, now time.Time) (issued, expires time.Time, err error) {
	issued = now.Truncate(time.Second)
	if valid < time.Minute || valid > 100*aYear {
		return issued, issued, usage("--valid %v is out of range: give a time such as 8760h", valid)
	}
	return issued, issued.Add(valid).Truncate(time.Second), nil
}

// ownIdentity is this home's kept peer id, made when it is first asked for.
type ownIdentity struct {
	flags *homeFlags
	dirs  home.Dirs
	id    mesh.PeerID // empty: not asked for
}

func (o *ownIdentity) peer() (mesh.PeerID, error) {
	if o.id != "" {
		return o.id, nil
	}
	key, err := home.StoredHostKey(o.dirs)
	if errors.Is(err, fs.ErrNotExist) {
		h, err := home.Open(o.dirs, o.flags.logger(os.Stderr))
		if errors.Is(err, home.ErrLocked) {
			return "", wrap(err, exitOther, "locked", "%v with an identity that it does not keep: stop it, or give addresses with /p2p/", err)
		}
		if err != nil {
			return "", err
		}
		defer h.Close()
		if key, err = h.HostKey(); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	o.id = mesh.PeerIDOf(key.Public().(ed25519.PublicKey))
	return o.id, nil
}

// shellQuote makes one word of text for a POSIX shell.
func shellQuote(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:+@%", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func day(t time.Time) string { return t.Local().Format("2 January 2006") }

func sameName(a, b string) bool {
	x, errX := node.NormaliseNetworkName(a)
	y, errY := node.NormaliseNetworkName(b)
	return cmp.Or(errX, errY) == nil && x == y
}
