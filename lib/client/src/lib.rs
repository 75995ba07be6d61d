//! A thin HTTP/2 API client, informers that keep bytes, work queues, leader election.
