package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"teahouse/internal/mesh"
	"teahouse/node"
)

// doctorCmd explains. So far it knows the policy alone.
type doctorCmd struct {
	Home   string `placeholder:"DIR" help:"Home whose policy.toml is asked (default: the XDG directories)."`
	Policy string `required:"" placeholder:"ADDR|PEER" help:"What the policy would do about an IP address, a multiaddr (also one through a relay) or a peer id."`
	policyFlags
	jsonFlag
}

// verdict is what doctor says of the policy. Fields may be added, never
// renamed.
type verdict struct {
	Subject string `json:"subject"`
	Verdict string `json:"verdict"` // allowed, refused
	Peer    string `json:"peer"`    // empty: none is named
	Address string `json:"address"` // empty: none is named
	Country string `json:"country"` // empty: not known
	Relay   string `json:"relay"`   // peer id of the relay, empty: none
	Rule    string `json:"rule"`    // what refuses
	Source  string `json:"source"`  // where that stands
	Message string `json:"message"`
}

func (c *doctorCmd) Run(*app) error {
	dirs, err := (&homeFlags{Home: c.Home}).dirs()
	if err != nil {
		return err
	}
	s, err := parseSubject(c.Policy)
	if err != nil {
		return err
	}
	p, err := loadPolicy(dirs, &c.policyFlags)
	if err != nil {
		return err
	}
	v := s.judge(p)
	v.Subject = c.Policy
	if c.JSON {
		printJSON(v)
		return nil
	}
	fmt.Println(v.Verdict + ": " + v.Message)
	if v.Country != "" {
		fmt.Println("country: " + v.Country)
	}
	return nil
}

// subject is what the policy is asked about.
type subject struct {
	peer  mesh.PeerID // who is to be reached, empty: anybody
	at    netip.Addr  // where packets would go, invalid: anywhere
	relay mesh.PeerID // who would pass them on, empty: nobody
}

// parseSubject reads an address, a multiaddr or a peer id.
func parseSubject(text string) (s subject, err error) {
	if id, err := parsePeerText(text); err == nil {
		return subject{peer: id}, nil
	}
	if at, err := netip.ParseAddr(text); err == nil {
		return subject{at: at}, nil
	}
	if at, err := netip.ParseAddrPort(text); err == nil {
		return subject{at: at.Addr()}, nil
	}
	wrong := usage("--policy %.80q is neither an IP address, nor a multiaddr such as %s, nor a peer id", text, addrForm)
	direct, beyond, relayed := strings.Cut(text, "/p2p-circuit")
	bare, id, named := strings.Cut(direct, "/p2p/")
	if checkAddr(bare, true) != nil || relayed && !named {
		return s, wrong
	}
	_, s.at = peerAt(bare)
	if named {
		if s.peer, err = parsePeerText(id); err != nil {
			return s, wrong
		}
	}
	if relayed {
		s.relay, s.peer = s.peer, ""
		if id, ok := strings.CutPrefix(beyond, "/p2p/"); ok {
			if s.peer, err = parsePeerText(id); err != nil {
				return s, wrong
			}
		} else if beyond != "" {
			return s, wrong
		}
	}
	return s, nil
}

// judge asks the policy, and puts its answer into words.
func (s subject) judge(p *node.Policy) verdict {
	v := verdict{Verdict: "refused"}
	if s.peer != "" {
		v.Peer = peerText(s.peer)
	}
	if s.relay != "" {
		v.Relay = peerText(s.relay)
	}
	if s.at.IsValid() {
		v.Address, v.Country = s.at.String(), p.Country(s.at)
	}
	err := p.AllowPeer(s.peer)
	switch {
	case err != nil:
	case s.relay != "":
		err = p.AllowRelay(s.relay, s.at, true)
	case s.at.IsValid():
		err = p.Allow(s.peer, s.at, node.Outbound)
	}
	var r *node.Refusal
	switch {
	case errors.As(err, &r):
		v.Rule, v.Source, v.Message = r.Rule, r.Source, r.Error()
	case s.relay != "":
		v.Verdict, v.Message = "allowed", "no rule is against this relay, if it has a ticket of the network; where packets go beyond it is not known"
	case !s.at.IsValid():
		v.Verdict, v.Message = "allowed", "no rule is against this peer; each of its addresses is judged by itself"
	case s.peer == "":
		v.Verdict, v.Message = "allowed", "no rule is against this address; who is there is judged by itself"
	default:
		v.Verdict, v.Message = "allowed", "no rule is against this peer at this address"
	}
	return v
}
