//go:build !linux

package main

import (
	"context"
	"errors"
)

// Run refuses.
func (*netCommand) Run(context.Context) error {
	return errors.New("network namespaces need Linux")
}
