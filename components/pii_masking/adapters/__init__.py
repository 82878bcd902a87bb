"""Masking inside the engines that some platforms have for large tables: Spark and Ray."""
