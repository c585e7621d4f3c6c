//go:build !race

package rig

// race tells that this very program has the race detector.
const race = false
