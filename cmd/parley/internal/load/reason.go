package load

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
)

// reason is the inmost cause of an error of the network, in few words and
// without addresses: the same for all that fail in the same way.
func reason(err error) string {
	var number syscall.Errno
	switch {
	case asRefused(err) != nil:
		return asRefused(err).Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &number):
		return number.Error()
	case errors.Is(err, io.EOF):
		return "the connection ended"
	}
	text := strings.ReplaceAll(err.Error(), "\n", ": ")
	parts := strings.Split(text, ": ")
	return parts[len(parts)-1]
}
