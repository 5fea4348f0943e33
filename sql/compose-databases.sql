-- For docker-compose.yml: one database for each service; the image made `assent` itself.
CREATE DATABASE orders;
CREATE DATABASE stock;
CREATE DATABASE account;
CREATE DATABASE coupon;
