package server

import "testing"

func TestAddressesAreCountedByNetwork(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1234":                  "192.0.2.7",
		"[::ffff:192.0.2.7]:1":            "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:443":      "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::1]:443":      "2001:db8:1:2::/64",
		"[fe80::1%eth0]:443":              "fe80::/64",
		"pipe":                            "pipe",
		"a name, which none should be:80": "a name, which none should be:80",
	} {
		if got := addressOf(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}
