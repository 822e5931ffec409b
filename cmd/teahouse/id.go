package main

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"teahouse/internal/home"
	"teahouse/internal/mesh"
)

// idCmd is about the identity of a home.
type idCmd struct {
	Show idShowCmd `cmd:"" default:"withargs" help:"Show the peer id and where things are kept."`
}

type idShowCmd struct {
	Home string `placeholder:"DIR" help:"Home to look at (default: the XDG directories)."`
	jsonFlag
}

func (c *idShowCmd) Run(*app) error {
	dirs, err := (&homeFlags{Home: c.Home}).dirs()
	if err != nil {
		return err
	}
	out := struct {
		Peer    string `json:"peer"` // empty: a new one at every start
		Config  string `json:"config"`
		Data    string `json:"data"`
		State   string `json:"state"`
		Runtime string `json:"runtime"`
		Control string `json:"control"`
	}{"", dirs.Config, dirs.Data, dirs.State, dirs.Runtime, dirs.ControlSocket()}
	key, err := home.StoredHostKey(dirs)
	switch {
	case err == nil:
		out.Peer = peerText(mesh.PeerIDOf(key.Public().(ed25519.PublicKey)))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if c.JSON {
		printJSON(out)
		return nil
	}
	if out.Peer == "" {
		fmt.Println("peer id   a new one at every start (--keep-identity keeps one)")
	} else {
		fmt.Println("peer id   " + out.Peer)
	}
	fmt.Println("settings  " + dirs.Config + "/config.toml")
	fmt.Println("keys      " + dirs.Data)
	fmt.Println("state     " + dirs.State)
	fmt.Println("control   " + out.Control)
	return nil
}

// versionCmd tells what this is.
type versionCmd struct {
	jsonFlag
}

func (c *versionCmd) Run() error { //nolint:unparam // kong wants the error
	if c.JSON {
		printJSON(struct {
			Version string `json:"version"`
			Go      string `json:"go"`
			System  string `json:"system"`
		}{version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
		return nil
	}
	fmt.Fprintf(os.Stdout, "teahouse %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// version is that of the module, or the commit, or "devel".
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}

// identity is this node's peer id and its addresses with /p2p/.
func (h *house) identity() (peer string, addrs []string) {
	self := h.node.Self()
	peer = peerText(self.ID)
	addrs = make([]string, 0, len(self.Addrs))
	for _, a := range self.Addrs {
		addrs = append(addrs, string(a)+"/p2p/"+peer)
	}
	// The first one is what people paste: QUIC, which can carry datagrams.
	slices.SortStableFunc(addrs, func(a, b string) int {
		return cmp.Compare(strings.Count(b, "/quic-v1/"), strings.Count(a, "/quic-v1/"))
	})
	return peer, addrs
}

// nodes is how many other nodes of the network are known here: not merely
// connected to, because a node of another network can be connected to.
func (h *house) nodes() int { return h.node.Stats().RoutingTable }

// met tells whether any other node of the network was met.
func (h *house) met() bool {
	st := h.current()
	return h.nodes() > 0 || st != nil && st.room.Stats().Members > 1
}
