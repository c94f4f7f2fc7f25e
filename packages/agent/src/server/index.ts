export * from './cni-server.js';
