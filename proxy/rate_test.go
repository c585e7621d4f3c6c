package proxy

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"dokku-expose/deploy"
)

// tableAt is a table with a clock that the test moves.
func tableAt() (t *rateTable, clock *time.Duration) {
	t, clock = newRateTable(), new(time.Duration)
	t.now = func() time.Duration { return *clock }
	return t, clock
}

func TestRate(t *testing.T) {
	const most = 10
	ip := netip.MustParseAddr("192.0.2.1")
	for _, row := range []struct {
		name string
		// every is the time between two attempts, want how many of those in a minute get through.
		every time.Duration
		want  int
	}{
		{"slow enough", deploy.RatePeriod / most * 5 / 4, 48},
		{"seldom", 2 * deploy.RatePeriod, 3},
		// The first ten at once, then as many as the average allows.
		{"far too fast", 10 * time.Millisecond, 60},
	} {
		t.Run(row.name, func(t *testing.T) {
			table, clock := tableAt()
			got := 0
			for ; *clock < time.Minute; *clock += row.every {
				if table.take(ip, most) {
					got++
				}
			}
			if got != row.want {
				t.Errorf("%d got through, want %d", got, row.want)
			}
		})
	}
}

func TestSources(t *testing.T) {
	table, _ := tableAt()
	for _, c := range []struct {
		ip string
		in bool
	}{
		{"192.0.2.1", true}, {"192.0.2.1", false}, {"192.0.2.2", true},
		{"2001:db8:1:1::1", true}, {"2001:db8:1:1:ffff::2", false}, {"2001:db8:1:2::1", true},
		{"::192.0.2.3", true}, {"192.0.2.3", true}, {"0.0.0.0", true}, {"::1:0:0:1", false},
	} {
		if got := table.take(netip.MustParseAddr(c.ip), 1); got != c.in {
			t.Errorf("%s: %t", c.ip, got)
		}
	}
}

// However many sources come, there is a bound to what is kept, and those seen last are remembered.
func TestRateTableIsBounded(t *testing.T) {
	table, clock := tableAt()
	source := func(i int) netip.Addr {
		ip := [16]byte{0x20, 0x01}
		binary.BigEndian.PutUint32(ip[4:], uint32(i))
		return netip.AddrFrom16(ip)
	}
	known := netip.MustParseAddr("192.0.2.1")
	table.take(known, 1)
	for i := range 3 * maxSources {
		table.take(source(i), 1)
		if n := len(table.recent) + len(table.former); n > maxSources {
			t.Fatalf("%d sources are kept", n)
		}
		if i%(maxSources/4) == 0 && table.take(known, 1) {
			t.Fatalf("one that goes on trying is forgotten after %d others", i)
		}
	}
	for i := 3*maxSources - maxSources/2; i < 3*maxSources; i++ {
		if table.take(source(i), 1) {
			t.Fatalf("source %d of %d is forgotten", i, 3*maxSources)
		}
	}
	*clock += 4 * deploy.RatePeriod
	table.take(known, 1)
	if n := len(table.recent) + len(table.former); n != 1 {
		t.Errorf("%d sources are kept that nothing has come of for long", n-1)
	}
}
