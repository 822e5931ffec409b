//go:build unix

package node

import (
	"errors"

	"golang.org/x/sys/unix"
)

// alreadyJoined tells whether err says that the group was joined before: an
// interface lost its addresses and has them again.
func alreadyJoined(err error) bool { return errors.Is(err, unix.EADDRINUSE) }
