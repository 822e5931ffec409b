package node

import (
	"log/slog"
	"os"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/gologshim"
)

// libp2p, its DHT and pubsub log through loggers of their packages, on
// standard error, with peer ids and addresses. What of it matters comes back
// to a Node as errors, so nothing is written, unless a developer asks for it in
// the way of these libraries: GOLOG_LOG_LEVEL. It can be said only once for a
// process, and before the first line.
func init() {
	if os.Getenv("GOLOG_LOG_LEVEL") != "" {
		return
	}
	gologshim.SetDefaultHandler(slog.DiscardHandler)
	golog.SetupLogging(golog.Config{Format: golog.PlaintextOutput, Level: golog.LevelFatal})
}
