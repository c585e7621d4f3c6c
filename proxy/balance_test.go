package proxy

import (
	"fmt"
	"net/netip"
	"testing"
)

// A container that comes or goes moves no more sources than it must.
func TestSourcesStay(t *testing.T) {
	const sources = 6000
	containers := []string{"c0ffee", "c0ffef", "decade", "facade"}
	choose := func(containers []string) (chosen []string, count map[string]int) {
		count = make(map[string]int)
		for i := range sources {
			ip := netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})
			best := ""
			for _, c := range containers {
				if best == "" || rankFor(ip, c) > rankFor(ip, best) {
					best = c
				}
			}
			chosen = append(chosen, best)
			count[best]++
		}
		return chosen, count
	}
	before, count := choose(containers)
	for _, c := range containers {
		if share := sources / len(containers); count[c] < share*9/10 || count[c] > share*11/10 {
			t.Errorf("%s has %d of %d sources", c, count[c], sources)
		}
	}
	for i, gone := range containers {
		t.Run(fmt.Sprintf("without %s", gone), func(t *testing.T) {
			rest := append(containers[:i:i], containers[i+1:]...)
			after, _ := choose(rest)
			for i := range after {
				if before[i] != gone && after[i] != before[i] {
					t.Fatalf("source %d moved from %s to %s", i, before[i], after[i])
				}
			}
		})
	}
}
