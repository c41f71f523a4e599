package main

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// loopbackOrigins are the pages that may connect to a server that believes
// everyone, unless others are named: those that this machine serves. Any other page
// that somebody looks at here could connect as whoever it likes.
var loopbackOrigins = []string{"localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", `\[::1\]`, `\[::1\]:*`}

// loopbackOnly turns away requests under another name than this machine's: a page
// can make the name that it came by lead here, and then has no other origin.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		if !loopback(host) {
			http.Error(w, "this address answers to localhost, 127.0.0.1 and [::1] only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
