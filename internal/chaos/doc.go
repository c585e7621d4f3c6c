// Package chaos holds nothing but tests: faults that are made under load on a Dokku host (package rig), with both engines, real
// containers and the program itself. Each fault says what clients are promised, and fails when they saw anything else
// (package load).
//
//	go test ./internal/chaos                        # the most telling faults, once
//	go test -v ./internal/chaos -chaos.rounds 3     # all of them, three times each, and a table: `make chaos`
//
// How long it takes until all is well again is told, and not judged.
package chaos
