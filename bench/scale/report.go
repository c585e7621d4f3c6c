package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"dokku-expose/bench/measure"
)

// The rows of the table.
const (
	rowSwitch          = "post-deploy that switches an app, ms"
	rowSwitchSlow      = "the slowest of them, ms"
	rowLists           = "listings of all of Docker's containers in it"
	rowCalls           = "requests to Docker in it"
	rowIdleHook        = "hook for an app without PORTS, ms"
	rowStart           = "start with the full table, ms"
	rowProxyMemory     = "bytes of memory per route, proxy"
	rowDaemonMemory    = "bytes of memory per route, daemon"
	rowProcessesBefore = "processes of the proxy before the deploys"
	rowProcessesAfter  = "processes of the proxy after them"
	rowBroken          = "connections broken that were held"
)

// rows are the rows in their order, each with what is wanted of it.
var rows = []struct{ title, goal string }{
	{rowSwitch, "50 at 10 apps, 250 at 1,000"},
	{rowSwitchSlow, ""},
	{rowLists, "1"},
	{rowCalls, ""},
	{rowIdleHook, "10"},
	{rowStart, ""},
	{rowProxyMemory, ""},
	{rowDaemonMemory, ""},
	{rowProcessesBefore, ""},
	{rowProcessesAfter, "as before"},
	{rowBroken, "0"},
}

// report is what was measured, in Markdown.
func report(o options, machine string, found map[string][]figures) string {
	text := []string{
		fmt.Sprintf("Apps with %d ports each; medians of %d deploys, one app after the other, with a connection held on each container that "+
			"is replaced. The plugin's program, its services and the connections are real. Docker is a stand-in that answers at once, and one "+
			"program answers for all containers. The times of post-deploy are without its pause for connections that wait in an old "+
			"container's queue. The start is until each port has answered; memory is what is resident beyond that without any app.",
			len(privatePorts), o.deploys),
		"Machine: " + machine + ".",
	}
	for _, e := range o.engines {
		text = append(text, "Engine "+e.name+":", table(o.sizes, found[e.name]))
	}
	return strings.Join(text, "\n\n") + "\n"
}

func table(sizes []int, found []figures) string {
	heading := []string{""}
	for _, size := range sizes {
		heading = append(heading, fmt.Sprintf("%d apps", size))
	}
	grown := fmt.Sprintf("growth for %.0f times the apps", float64(slices.Max(sizes))/float64(slices.Min(sizes)))
	lines := [][]string{append(heading, grown, "goal")}
	for _, row := range rows {
		line := []string{row.title}
		for _, f := range found {
			line = append(line, measure.Number(f[row.title]))
		}
		growth := "-"
		if first, last := found[0][row.title], found[len(found)-1][row.title]; first > 0 && !math.IsNaN(last) {
			growth = fmt.Sprintf("%.2f", last/first)
		}
		lines = append(lines, append(line, growth, row.goal))
	}
	return strings.TrimRight(measure.Table(lines), "\n")
}
