package node

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Messages of multicast DNS (RFC 6762) and DNS service discovery (RFC 6763), in
// the form that libp2p's mDNS discovery specification gives them:
//
//	query     PTR? SERVICE.local                          for each service
//	answer    SERVICE.local          PTR  INSTANCE.SERVICE.local
//	          INSTANCE.SERVICE.local TXT  "dnsaddr=MULTIADDR/p2p/PEER" ...
//	goodbye   an answer with a time to live of 0
//
// Neither machine names nor host addresses (SRV, A, AAAA) are said: only our
// own nodes are meant to understand, and these need the text records alone.

const (
	mdnsPort = 5353
	// mdnsTTL is the life of an answer: RFC 6762 section 10 has 75 minutes for
	// what names no host; we say it again far more often.
	mdnsTTL = 2 * time.Minute

	maxMDNSMessage   = 9000 // bytes, RFC 6762 section 17
	maxMDNSQuestions = 32
	maxMDNSRecords   = 64
	maxMDNSAddrs     = 8 // of one peer
	maxMDNSText      = 200

	dnsaddr = "dnsaddr="
)

// mdnsMessage is what we understand of a message.
type mdnsMessage struct {
	asks    []string // services asked for, such as "_teahouse._udp.local."
	answers []mdnsAnswer
}

// mdnsAnswer is one instance of a service.
type mdnsAnswer struct {
	service  string
	instance string
	ttl      time.Duration
	addrs    []string // multiaddrs with /p2p/, unchecked
}

// lanService is the service of the built-in network.
const lanService = "_teahouse-lan._udp.local."

// mdnsServices are what a node asks for and answers to at a time: on lan a
// constant, elsewhere a tag of the day, so that the wire shows neither the
// network nor that two days are the same one's. As with gossip topics, near
// midnight (UTC) the neighbouring day counts too, for clocks that are an hour
// or two wrong. The first is the one of now.
func (n Network) mdnsServices(now time.Time) []string {
	if n.LAN {
		return []string{lanService}
	}
	day, hour := now.Unix()/86400, now.Unix()%86400/3600
	services := []string{n.mdnsService(day)}
	switch {
	case hour < 2:
		services = append(services, n.mdnsService(day-1))
	case hour >= 22:
		services = append(services, n.mdnsService(day+1))
	}
	return services
}

// mdnsService is the service of one day: 13 characters of base32, within the
// 15 that RFC 6335 section 5.1 gives a service name.
func (n Network) mdnsService(day int64) string {
	label := binary.BigEndian.AppendUint64([]byte("teahouse mdns 1"), uint64(day))
	return "_" + lowerBase32.EncodeToString(expand(n.Secret[:], string(label), 8)) + "._udp.local."
}

// mdnsQuery asks for services.
func mdnsQuery(services []string) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	for _, s := range services {
		name, err := dnsmessage.NewName(s)
		if err != nil {
			return nil, err
		}
		if err := b.Question(dnsmessage.Question{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// cacheFlush marks a record that belongs to its sender alone (RFC 6762
// section 10.2).
const cacheFlush = 1 << 15

// marshal writes a as an answer.
func (a *mdnsAnswer) marshal() ([]byte, error) {
	service, err := dnsmessage.NewName(a.service)
	if err != nil {
		return nil, err
	}
	instance, err := dnsmessage.NewName(a.instance + "." + a.service)
	if err != nil {
		return nil, err
	}
	text := make([]string, 0, len(a.addrs))
	for _, addr := range a.addrs {
		text = append(text, dnsaddr+addr)
	}
	ttl := uint32(a.ttl / time.Second)
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true, Authoritative: true})
	b.EnableCompression()
	return finish(&b,
		b.StartAnswers(),
		b.PTRResource(dnsmessage.ResourceHeader{Name: service, Class: dnsmessage.ClassINET, TTL: ttl}, dnsmessage.PTRResource{PTR: instance}),
		b.TXTResource(dnsmessage.ResourceHeader{Name: instance, Class: dnsmessage.ClassINET | cacheFlush, TTL: ttl}, dnsmessage.TXTResource{TXT: text}))
}

func finish(b *dnsmessage.Builder, steps ...error) ([]byte, error) {
	if err := errors.Join(steps...); err != nil {
		return nil, err
	}
	return b.Finish()
}

var errMDNS = errors.New("no message of multicast DNS that we understand")

// parseMDNS reads a message. Of an answer only instances that have both
// records stay.
func parseMDNS(b []byte) (mdnsMessage, error) {
	if len(b) > maxMDNSMessage {
		return mdnsMessage{}, errMDNS
	}
	var p dnsmessage.Parser
	head, err := p.Start(b)
	if err != nil || head.OpCode != 0 || head.RCode != dnsmessage.RCodeSuccess {
		return mdnsMessage{}, errMDNS
	}
	if head.Response {
		return parseAnswers(&p)
	}
	var m mdnsMessage
	for range maxMDNSQuestions {
		q, err := p.Question()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return mdnsMessage{}, errMDNS
		}
		// The top bit asks for an answer to the sender alone, which we never give.
		if (q.Type == dnsmessage.TypePTR || q.Type == dnsmessage.TypeALL) && q.Class&^cacheFlush == dnsmessage.ClassINET {
			m.asks = append(m.asks, strings.ToLower(q.Name.String()))
		}
	}
	return m, nil
}

func parseAnswers(p *dnsmessage.Parser) (mdnsMessage, error) {
	if err := p.SkipAllQuestions(); err != nil {
		return mdnsMessage{}, errMDNS
	}
	r := mdnsRecords{service: make(map[string]string), text: make(map[string][]string), ttl: make(map[string]uint32)}
	sections := []struct {
		head func() (dnsmessage.ResourceHeader, error)
		skip func() error
	}{{p.AnswerHeader, p.SkipAnswer}, {p.AuthorityHeader, p.SkipAuthority}, {p.AdditionalHeader, p.SkipAdditional}}
	for _, s := range sections {
		for {
			h, err := s.head()
			if errors.Is(err, dnsmessage.ErrSectionDone) {
				break
			}
			if r.count++; err != nil || r.count > maxMDNSRecords || r.take(p, h, s.skip) != nil {
				return mdnsMessage{}, errMDNS
			}
		}
	}
	return r.message(), nil
}

// mdnsRecords collects the records of one message.
type mdnsRecords struct {
	count   int
	order   []string            // instances, as they came
	service map[string]string   // by instance
	text    map[string][]string // by instance
	ttl     map[string]uint32   // by instance
}

func (r *mdnsRecords) take(p *dnsmessage.Parser, h dnsmessage.ResourceHeader, skip func() error) error {
	name := strings.ToLower(h.Name.String())
	switch {
	case h.Class&^cacheFlush != dnsmessage.ClassINET:
		return skip()
	case h.Type == dnsmessage.TypePTR:
		ptr, err := p.PTRResource()
		if err != nil {
			return err
		}
		instance := strings.ToLower(ptr.PTR.String())
		if _, known := r.service[instance]; !known {
			r.order = append(r.order, instance)
		}
		r.service[instance], r.ttl[instance] = name, h.TTL
		return nil
	case h.Type == dnsmessage.TypeTXT:
		txt, err := p.TXTResource()
		if err != nil {
			return err
		}
		r.text[name] = txt.TXT
		return nil
	}
	return skip()
}

func (r *mdnsRecords) message() mdnsMessage {
	var m mdnsMessage
	for _, full := range r.order {
		instance, ok := strings.CutSuffix(full, "."+r.service[full])
		text, described := r.text[full]
		if !ok || instance == "" || !described {
			continue
		}
		a := mdnsAnswer{service: r.service[full], instance: instance, ttl: time.Duration(r.ttl[full]) * time.Second}
		for _, t := range text {
			addr, ok := strings.CutPrefix(t, dnsaddr)
			if ok && len(addr) <= maxMDNSText && len(a.addrs) < maxMDNSAddrs {
				a.addrs = append(a.addrs, addr)
			}
		}
		m.answers = append(m.answers, a)
	}
	return m
}
