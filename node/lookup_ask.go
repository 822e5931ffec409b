package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-msgio/pbio"
)

const (
	// maxAnswer is the longest answer that is read, bytes: 512 providers and 20
	// closer peers, each with 16 addresses of IPv6. The library would take 4 MiB.
	maxAnswer = 512 << 10
	// askTime is the longest that a request may take.
	askTime = 10 * time.Second
)

// asker sends the requests of the DHT, each on a stream of its own: on one that
// is kept, as the library has it, a peer that does not answer one question
// holds up all others to it.
type asker struct {
	host      host.Host
	protocols []protocol.ID
}

var _ dhtpb.MessageSenderWithDisconnect = (*asker)(nil)

func newAsker(h host.Host, protocols []protocol.ID) dhtpb.MessageSenderWithDisconnect {
	return &asker{h, protocols}
}

// SendRequest asks, and waits for the answer.
func (a *asker) SendRequest(ctx context.Context, p peer.ID, m *dhtpb.Message) (*dhtpb.Message, error) {
	answer := new(dhtpb.Message)
	begun := time.Now()
	err := a.send(ctx, p, m, func(st network.Stream) error {
		return pbio.NewDelimitedReader(st, maxAnswer).ReadMsg(answer)
	})
	if err != nil {
		return nil, err
	}
	a.host.Peerstore().RecordLatency(p, time.Since(begun))
	return answer, nil
}

// SendMessage sends what has no answer.
func (a *asker) SendMessage(ctx context.Context, p peer.ID, m *dhtpb.Message) error {
	return a.send(ctx, p, m, func(network.Stream) error { return nil })
}

func (a *asker) send(ctx context.Context, p peer.ID, m *dhtpb.Message, then func(network.Stream) error) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	st, err := a.host.NewStream(ctx, p, a.protocols...)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	err = pbio.NewDelimitedWriter(st).WriteMsg(m)
	if err == nil {
		err = then(st)
	}
	if err != nil {
		_ = st.Reset()
		return errors.Join(fmt.Errorf("ask: %w", err), ctx.Err())
	}
	return st.Close()
}

// OnDisconnect has nothing to forget.
func (a *asker) OnDisconnect(context.Context, peer.ID) {}
