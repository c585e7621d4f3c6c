// Package deploy is the model: which public address leads to which containers, for which app, and how that comes to be.
//
// The data goes one way: read, probe, plan, apply. A [Host] tells what Dokku and the operator want ([App]), a [Source] which endpoints
// there are ([Endpoint]), and an [Engine] what it serves: that is a [Snapshot]. [Plan] makes the [Table] of it, and names the addresses
// that have to be asked before ([Evidence]); the engine makes the table real. Of a source that is not fresh ([Trust]) Plan only takes
// away, and so does [Reduce], which has nobody asked. A [Reconciler] does all of that under one host-wide lock; nothing else applies a
// table. [Admit] decides beforehand whether an app may have what it asks for. Plan, Reduce and Admit are pure.
//
// The package knows no file of Dokku's, no Docker API and no HAProxy: these are rooms of their own that import this one.
// It must stay that way, so that what decides who gets whose traffic can be read, and tested, without any of them.
package deploy
