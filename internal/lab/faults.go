//go:build linux

package lab

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Loss drops this part of the IPv4 packets that arrive at the host (ARP never
// is), in tenths of a percent, 0 to 1000, at random. It replaces the loss set
// before.
func (h *Host) Loss(ctx context.Context, permille int) error {
	if permille < 0 || permille > 1000 {
		return fmt.Errorf("lose %d of a thousand packets: out of range", permille)
	}
	rule := ""
	if permille > 0 {
		rule = fmt.Sprintf("numgen random mod 1000 < %d", permille)
	}
	return h.drop(ctx, "loss", rule)
}

// BlockUDP drops all UDP that arrives at the host, as a firewall does that
// answers nothing, or lets it in again. What the host sends is its own affair:
// a drop on the way out would be an error that the sender sees.
func (h *Host) BlockUDP(ctx context.Context, blocked bool) error {
	rule := ""
	if blocked {
		rule = "meta l4proto udp"
	}
	return h.drop(ctx, "firewall", rule)
}

// drop drops what arrives and fits the rule, empty: nothing. It replaces the
// rule of this name.
func (h *Host) drop(ctx context.Context, name, rule string) error {
	rules := fmt.Sprintf("table inet %s {}\ndelete table inet %s\n", name, name)
	if rule != "" {
		rules += fmt.Sprintf("table inet %s { chain in { type filter hook prerouting priority -300; iifname %q %s counter drop\n}\n}\n", name, h.dev, rule)
	}
	cmd := h.Command(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	return run(cmd)
}

// Rate limits what the host sends, in kbit/s, with a queue of 50 ms; 0 ends
// the limit.
func (h *Host) Rate(ctx context.Context, kbits int) error {
	if kbits <= 0 {
		_ = h.tool(ctx, "tc", "qdisc", "del", "dev", h.dev, "root") // there may be none
		return nil
	}
	return h.tool(ctx, "tc", "qdisc", "replace", "dev", h.dev, "root", "tbf",
		"rate", strconv.Itoa(kbits)+"kbit", "burst", "5kb", "latency", "50ms")
}

// Unplug takes the host's network away, or gives it back as it was: the kernel
// forgets the routes of an interface that is down.
func (h *Host) Unplug(ctx context.Context, out bool) error {
	if out {
		return h.tool(ctx, "ip", "link", "set", "dev", h.dev, "down")
	}
	if err := h.tool(ctx, "ip", "link", "set", "dev", h.dev, "up"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.route(ctx)
}

// Renumber gives the host another address, in another network where it is
// routed, and takes the old one away, as moving from one network to the next
// does. What was bound to the old address hears nothing any more.
// Whoever is behind a home router keeps what it has, and its router moves.
func (h *Host) Renumber(ctx context.Context) error {
	if h.router != nil {
		return fmt.Errorf("give %s another address: %s has that to give", h.ns, h.router.ns)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.moves == 255 {
		return fmt.Errorf("give %s another address: it has had them all", h.ns)
	}
	h.moves++
	if err := h.tool(ctx, "ip", "-4", "addr", "flush", "dev", h.dev); err != nil {
		return err
	}
	if err := h.settle(ctx); err != nil || h.moved == nil {
		return err
	}
	return h.moved(ctx)
}
