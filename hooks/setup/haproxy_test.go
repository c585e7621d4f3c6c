package setup

import "testing"

func TestNewEnough(t *testing.T) {
	for _, row := range []struct {
		name, banner string
		want         bool
	}{
		{"Debian 12", "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", true},
		{"the oldest", "HAProxy version 2.4.0-6cbbecf 2021/05/14 - https://haproxy.org/", true},
		{"a new major version", "HAProxy version 3.2.1-1 2025/06/10 - https://haproxy.org/", true},
		{"two digits", "HAProxy version 2.10.1 2030/01/01 - https://haproxy.org/", true},
		{"a major version of two digits", "HAProxy version 10.0.1 2030/01/01 - https://haproxy.org/", true},
		{"Debian 11, with the old name", "HA-Proxy version 2.2.9-2+deb11u6 2023/12/10 - https://haproxy.org/", false},
		{"before the major version", "HA-Proxy version 1.8.27 2020/11/06", false},
		{"another program", "usage: haproxy [file]", false},
		{"nothing", "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := newEnough(row.banner); got != row.want {
				t.Errorf("newEnough(%q) is %v", row.banner, got)
			}
		})
	}
}
