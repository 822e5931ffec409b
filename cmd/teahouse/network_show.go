package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"teahouse/internal/home"
	"teahouse/node"
)

// networkSummary is a network in JSON, without its secret.
type networkSummary struct {
	Network    string        `json:"network"`
	Name       string        `json:"name"`
	Revision   uint64        `json:"revision"`
	Issued     string        `json:"issued"`
	Expires    string        `json:"expires"`
	Expired    bool          `json:"expired"`
	Bootstraps []string      `json:"bootstraps"`
	Relays     []relayTicket `json:"relays"`
	Revoked    []string      `json:"revoked"`
	Policy     string        `json:"policy"`
}

type relayTicket struct {
	Peer    string   `json:"peer"`
	Addrs   []string `json:"addrs"`
	Expires string   `json:"expires"`
}

func summaryOf(d *node.Descriptor) networkSummary {
	out := networkSummary{
		Network: d.ID(), Name: d.Name, Revision: d.Revision,
		Issued: d.Issued.UTC().Format(time.RFC3339), Expires: d.Expires.UTC().Format(time.RFC3339),
		Expired:    d.CheckTime(time.Now()) != nil,
		Bootstraps: append([]string{}, d.Peers()...), Relays: []relayTicket{}, Revoked: []string{}, Policy: d.Policy,
	}
	for _, r := range d.Relays {
		out.Relays = append(out.Relays, relayTicket{peerText(r.Peer), r.Multiaddrs(), r.Expires.UTC().Format(time.RFC3339)})
	}
	for _, p := range d.Revoked {
		out.Revoked = append(out.Revoked, peerText(p))
	}
	return out
}

type networkShowCmd struct {
	Secret bool `help:"Show the network secret and the link too: who sees them is a member."`
	chooseFlags
	jsonFlag
}

func (c *networkShowCmd) Run(a *app) error {
	s, networks, err := c.choose(a)
	if err != nil {
		return err
	}
	root := map[home.RootKey]string{
		home.NoRoot: "not in this home", home.PlainRoot: "in " + networks.RootFile(s.stored.Name),
		home.LockedRoot: "under a passphrase, in " + networks.RootFile(s.stored.Name),
	}[s.stored.Root]
	if c.JSON {
		out := struct {
			networkSummary
			Root   bool   `json:"root_key"`
			File   string `json:"file"`
			Secret string `json:"secret,omitempty"`
			Link   string `json:"link,omitempty"`
		}{summaryOf(s.Descriptor), s.stored.Root != home.NoRoot, s.stored.File, "", ""}
		if c.Secret {
			out.Secret, out.Link = hex.EncodeToString(s.Secret[:]), s.Link()
		}
		printJSON(out)
		return nil
	}
	line := func(what, value string) { fmt.Printf("%-11s %s\n", what, value) }
	line("network", s.Name)
	line("id", s.ID())
	line("revision", fmt.Sprintf("%d, of %s", s.Revision, day(s.Issued)))
	if s.CheckTime(time.Now()) != nil {
		line("expired", day(s.Expires))
	} else {
		line("valid until", day(s.Expires))
	}
	for _, addr := range s.Peers() {
		line("bootstrap", addr)
	}
	for _, r := range s.Relays {
		for _, addr := range r.Multiaddrs() {
			line("relay", addr+" until "+day(r.Expires))
		}
	}
	for _, p := range s.Revoked {
		line("revoked", peerText(p))
	}
	if s.Policy != "" {
		line("policy", fmt.Sprintf("\n%s", printable(s.Policy)))
	}
	line("root key", root)
	line("file", s.stored.File)
	if c.Secret {
		line("secret", hex.EncodeToString(s.Secret[:]))
		line("link", s.Link())
	} else {
		line("secret", "hidden (--secret shows it)")
	}
	return nil
}

// printable is text of several lines without what a terminal would obey.
func printable(text string) string {
	out := []rune(text)
	for i, r := range out {
		if r != '\n' && plain(string(r)) != string(r) {
			out[i] = '\uFFFD'
		}
	}
	return string(out)
}

type networkListCmd struct {
	homeFlags
	jsonFlag
}

func (c *networkListCmd) Run(a *app) error {
	dirs, err := c.dirs()
	if err != nil {
		return err
	}
	files, err := home.NetworksOf(dirs).List()
	if err != nil {
		return err
	}
	all := readStored(files, a.screen)
	for _, s := range all {
		if c.JSON {
			printJSON(struct {
				networkSummary
				Root bool `json:"root_key"`
			}{summaryOf(s.Descriptor), s.stored.Root != home.NoRoot})
			continue
		}
		state := "valid until " + day(s.Expires)
		if s.CheckTime(time.Now()) != nil {
			state = "expired on " + day(s.Expires)
		}
		if s.stored.Root != home.NoRoot {
			state += ", root key here"
		}
		fmt.Printf("%s  %s  revision %d, %s\n", s.ID(), s.Name, s.Revision, state)
	}
	if len(all) == 0 && !c.JSON {
		a.screen.println("No networks with a descriptor here. Without one there are lan and whatever --network NAME says.")
	}
	return nil
}

type networkInviteCmd struct {
	Out string `placeholder:"FILE" help:"Write the link to FILE instead."`
	QR  string `name:"qr" default:"auto" enum:"auto,on,off" help:"Draw a QR code: on, off or auto (in a terminal)."`
	chooseFlags
	jsonFlag
}

func (c *networkInviteCmd) Run(a *app) error {
	s, _, err := c.choose(a)
	if err != nil {
		return err
	}
	if err := s.CheckTime(time.Now()); err != nil {
		return wrap(err, exitRefused, "network", "%v, so nobody would take the link: its founder can renew it with `teahouse network revise --valid 8760h`", err)
	}
	switch {
	case c.Out != "":
		if err := writeNew(c.Out, networkFile(s.Descriptor)); err != nil {
			return err
		}
		a.screen.println(fmt.Sprintf("%s is written: whoever has it can join with `teahouse network join FILE`.", c.Out))
		return nil
	case c.JSON:
		printJSON(struct {
			Network string `json:"network"`
			Name    string `json:"name"`
			Link    string `json:"link"`
		}{s.ID(), s.Name, s.Link()})
		return nil
	}
	out := int(os.Stdout.Fd())
	if c.QR == "on" || c.QR == "auto" && term.IsTerminal(out) {
		width, _, err := term.GetSize(out)
		if err != nil {
			width = 0 // no terminal: as wide as it needs
		}
		picture, err := qrText(s.Link(), width, os.Getenv("NO_COLOR") == "" && term.IsTerminal(out))
		if err != nil {
			a.screen.println("teahouse: no QR code: " + err.Error())
		}
		fmt.Print(picture)
	}
	fmt.Println(s.Link())
	a.screen.println("Who has this link is a member of the network: send it by a way that you trust.")
	return nil
}

// writeNew makes a file for this user alone; one that is there is left as it is.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return usage("--out: %v: name a new file in a directory that you may write to", err)
	}
	if _, err := f.WriteString(text); err != nil {
		_ = f.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
